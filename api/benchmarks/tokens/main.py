"""Start `bench/tokens@1` under the processor runtime."""

import theory_runtime

if __name__ == "__main__":
    raise SystemExit(theory_runtime.main(__file__))
