"""A step that is told something: JSON where it is JSON ('{"city": "Oslo"}'), else the text itself:

dotflow start --step docs_src.cli.cli_with_initial_context.simple_step --initial-context abc
"""

from dotflow import Context, action


@action
def simple_step(initial_context: Context) -> str:
    print(f"initial context: {initial_context.storage}")
    return "ok"


if __name__ == "__main__":
    print(__doc__)
