"""`tidings lint`: check EventTypes and EventSubscriptions."""

from tidings_cli import inputs, output
from tidings_cli.inputs import Against, Paths
from tidings_cli.output import Format
from tidings_plan import plan
from tidings_plan.resources import load


def lint(paths: Paths = None, against: Against = None, output_format: Format = "table") -> None:
    """Check EventTypes and EventSubscriptions, individually and against each other.

    Exit code 0: no errors; 1: at least one error; 2: wrong usage.
    """
    chosen = inputs.chosen(paths)
    inventory = load(chosen)
    planned = plan(inventory, history=inputs.history(against, chosen))
    if output_format == "json":
        output.dump([finding.to_dict() for finding in planned.findings])
    else:
        console = output.console()
        output.show(planned.findings, console)
        counts = f"{len(inventory.types)} event types, {len(inventory.subscriptions)} subscriptions"
        console.print(f"{counts}: {output.summary(planned.findings)}")
    output.leave(planned.findings)
