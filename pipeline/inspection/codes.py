"""What findings are called, and nothing else, so that the command line need not wait for what finds them."""

CODES = (
    "leak",
    "conflict",
    "double",
    "group",
    "label",
    "shortcut",
    "imbalance",
    "few",
    "absent",
    "blank",
    "dark",
    "blurred",
    "size",
    "shape",
    "odd",
)
