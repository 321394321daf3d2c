"""`tidings up`: a whole system of services, sidecars and a broker on one machine, without Docker or a cluster.

| module | what it is for |
|---|---|
| `project` | `tidings.yaml`, read strictly |
| `ports` | which port everything listens on |
| `backends` | the broker and the state store, started here or reached by address |
| `system`, `processes` | what to start, with which arguments and environment: pure |
| `folder`, `prepare` | the run folder: resources, policies, data, logs; all that must be right before the start |
| `probes` | when a process counts as ready |
| `supervisor`, `launch`, `leftovers` | one process kept alive, and nothing left behind |
| `run` | the system as a whole; `async with running(root)` is what tests use |
| `state`, `control` | `state.json`, by which other programs see what runs, and steer it |
| `logs`, `view` | log lines made readable, and the live table |
| `command`, `steering` | the commands `up`; `ps`, `logs`, `restart`, `stop`, `start`, `down` |
"""
