"""`python -m services.feature_store`."""

if __name__ == "__main__":
    # Imported here: the child process that reads history loads this module anew and needs none of it.
    from millrace.runtime.main import main

    from services.feature_store.bootstrap import build

    main(build)
