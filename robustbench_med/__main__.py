"""``python -m robustbench_med`` is ``rbmed``."""

from robustbench_med.cli.entry import main

if __name__ == "__main__":
    main()
