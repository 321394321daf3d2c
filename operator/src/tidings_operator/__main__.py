"""`python -m tidings_operator`: run the operator, in a cluster or with the current kubeconfig."""

import importlib
import sys

if __name__ == "__main__":
    # kopf imports the `kubernetes` package if it is installed, which costs 25 MB; only the CLI needs it.
    sys.modules["kubernetes"] = None  # type: ignore[assignment]
    importlib.import_module("tidings_operator.process").main()
