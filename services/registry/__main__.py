"""`python -m services.registry`."""

from millrace.runtime.main import main

from services.registry.bootstrap import build

if __name__ == "__main__":
    main(build)
