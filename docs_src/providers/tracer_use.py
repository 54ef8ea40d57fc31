import logging
import sys

from tracer_request import TracerRequest, WithRequest

from dotflow import Config, DotFlow, action
from dotflow.providers import ExecutorProcess


@action
def work() -> str:
    handler = logging.StreamHandler(sys.stdout)  # here, since a worker process has a logging of its own
    handler.setFormatter(logging.Formatter("%(request)s: %(message)s"))
    handler.addFilter(WithRequest())
    logger = logging.Logger("work")
    logger.addHandler(handler)
    logger.info("at work")
    return "done"


workflow = DotFlow(Config(tracer=TracerRequest(), executor=ExecutorProcess()), name="orders")
workflow.task.add([work, work])
workflow.start()
print(workflow.result_storage())
