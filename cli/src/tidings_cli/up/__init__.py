"""`tidings up`: run a system of services, sidecars and a broker on one machine, without Docker or a cluster.

| module | purpose |
|---|---|
| `project` | strict parser of `tidings.yaml` |
| `ports` | assignment of ports |
| `backends` | broker and state store, started locally or external |
| `system`, `processes` | processes to start, with arguments and environment (pure) |
| `folder`, `prepare` | the run folder: resources, policies, data, logs; all preparations before the start |
| `probes` | readiness probes |
| `supervisor`, `launch`, `orphans` | supervision of one process, and clean-up of orphaned ones |
| `run` | the running system; tests use `async with running(root)` |
| `state`, `control` | `state.json`, through which other programs observe and control the run |
| `logs`, `view` | log parsing, log files, and the live table |
| `command`, `control_commands` | the commands `up`; `ps`, `logs`, `restart`, `stop`, `start`, `down` |
"""
