"""`python -m millrace.cli` is `millrace`."""

from millrace.cli.main import app

if __name__ == "__main__":
    app(prog_name="millrace")
