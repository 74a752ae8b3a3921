"""`python -m services.inference`."""

from millrace.runtime.main import main

from services.inference.bootstrap import build

if __name__ == "__main__":
    main(build)
