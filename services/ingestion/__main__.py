"""`python -m services.ingestion`."""

from millrace.runtime.main import main

from services.ingestion.bootstrap import build
from services.ingestion.settings import Settings

if __name__ == "__main__":
    main(lambda: build(Settings()))
