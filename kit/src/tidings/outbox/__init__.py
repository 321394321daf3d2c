"""Publishing strategies that survive a crash between the write and the broker. `log` is the default."""
