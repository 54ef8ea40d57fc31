"""Work in several threads at once."""

import threading
from collections.abc import Callable


def run_threads(work: Callable[[int], None], numbers: list[int]) -> None:
    """Runs it once for each number, at the same time; raises what one of them raised."""
    raised: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # the storage's own: it is raised where the test sees it
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
