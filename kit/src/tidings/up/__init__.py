"""`tidings up`: a whole system of services, sidecars and a broker on one machine, without Docker or a cluster.

| module | what it is for |
|---|---|
| `project` | `tidings.yaml`, read strictly |
| `ports` | which port everything listens on |
| `backends` | the broker and the state store, started here or reached by address |
| `processes` | what to start, with which arguments and environment: pure |
| `folder` | the run folder: resources, policies, data, logs |
| `probes` | when a process counts as ready |
| `supervisor` | one process kept alive: start, wait, restart with back-off, stop |
| `run` | the system as a whole; `async with Run(project)` is what tests use |
| `state` | `state.json`, by which other programs see what runs |
| `logs`, `view` | log lines made readable, and the live table |
| `command` | the commands `up`, `ps`, `logs`, `restart`, `stop`, `start`, `down` |
"""
