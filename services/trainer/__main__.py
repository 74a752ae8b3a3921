"""`python -m services.trainer`."""

from millrace.runtime.main import main

from services.trainer.bootstrap import build

if __name__ == "__main__":
    main(build)
