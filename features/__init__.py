"""Images to feature tables: sources, decoding, frozen trunks, extraction, and the Parquet table.

Nothing here knows of classifiers or of the command line; `models` and `pipeline` build on it.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime's own, from 1.32 on; it asks when it is loaded
