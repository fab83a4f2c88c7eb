"""A superlink or supernode process that ends when its parent process ends, in whatever way.

``python -m rbmed_fl.engines.flower_process PID superlink|supernode OPTION...``
"""

from __future__ import annotations

import sys


def main() -> None:
    """Monitor the parent process and run the superlink or supernode."""
    parent, role = sys.argv[1:3]
    del sys.argv[1:3]
    from flwr.supercore.app_utils import start_parent_process_monitor

    start_parent_process_monitor(int(parent))
    if role == "superlink":
        from flwr.superlink.cli import flower_superlink as run
    else:
        from flwr.supernode.cli import flower_supernode as run
    run()


if __name__ == "__main__":
    main()
