import socket

from dotflow import DotFlow, action


@action(retry=2, retry_delay=0.1, timeout=0.5)
def ask_the_station() -> None:
    server = socket.create_server(("127.0.0.1", 0))  # stands for a weather station that is silent
    with server, socket.create_connection(server.getsockname()) as station:
        station.recv(1024)
    print("never printed: the attempt is over before")


workflow = DotFlow(name="station")
workflow.task.add(ask_the_station)
run = workflow.start()

print(run.status)
for error in run.tasks[0].errors:
    print(error.attempt, error.exception, error.message)
