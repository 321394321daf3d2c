"""Makes JetStream's streams: one for each topic of the chart's plan. Runs in the chart's job, in a service's image."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from tidings.streams import StreamError, ensure_streams

FOLDER = Path(__file__).parent
PATIENCE = 120.0  # seconds that NATS may take to start


def main() -> None:
    """Make them, waiting until NATS is there."""
    topics = json.loads((FOLDER / "topics.json").read_text())
    component = json.loads((FOLDER / "component.json").read_text())
    replicas = int(os.environ["REPLICAS"])
    end = time.monotonic() + PATIENCE
    while True:
        try:
            asyncio.run(ensure_streams(os.environ["NATS_URL"], topics, component=component, replicas=replicas))
        except StreamError as error:
            # Its message may hold the address with the password; the job's pod is no place for it.
            reason = str(error).replace(os.environ["NATS_URL"], "NATS_URL")
            if time.monotonic() > end:
                sys.exit(reason)
            sys.stderr.write(f"{reason}\n")
            time.sleep(2)
        else:
            sys.stdout.write(f"{len(topics)} streams are there\n")
            return


if __name__ == "__main__":
    main()
