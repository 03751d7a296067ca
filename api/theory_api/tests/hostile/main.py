"""Start a processor that misbehaves as it is told: only the tests know it."""

import theory_runtime

if __name__ == "__main__":
    raise SystemExit(theory_runtime.main(__file__))
