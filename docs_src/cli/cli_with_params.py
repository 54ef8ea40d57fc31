"""Steps with parameters: --param fills them, and a step is given what the step of its parameter's name returned:

dotflow start --step docs_src.cli.cli_with_params.orders --step docs_src.cli.cli_with_params.show --param day=2026-11-25
"""

from datetime import date

from dotflow import action


@action
def orders(day: date, limit: int = 100) -> list[str]:
    return [f"{day:%d %B}: order {number}" for number in range(min(limit, 3))]


@action
def show(orders: list[str]) -> None:
    print("\n".join(orders))


if __name__ == "__main__":
    print(__doc__)
