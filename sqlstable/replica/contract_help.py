"""What the Internet Computer advises where a canister has misused a system call."""

from typing import Final

DOCUMENTATION: Final = "https://internetcomputer.org/docs/current/references/execution-errors#"

TOOLCHAIN: Final = (
    "If you are running this canister in a test environment (e.g., dfx), make sure the test "
    "environment is up to date. Otherwise, this is likely an error with the compiler/CDK toolchain "
    "being used to build the canister. Please report the error to IC devs on the forum: "
    "https://forum.dfinity.org and include which language/CDK was used to create the canister."
)
"""Where nothing else is known.

Source:
    dfinity/ic rs/types/wasm_types/src/errors.rs ErrorHelp @ 1bc0a5953, 2025-10-31.
"""

_ADVICE: Final = (
    (
        '" cannot be executed in ',
        (
            "Check the ICP documentation to make sure APIs are being called in the correct message "
            "types."
        ),
        "calling-a-system-api-from-the-wrong-mode",
    ),
    (
        "ic0.msg_reply_data_append: application payload size",
        "Consider checking the response size and returning an error if it is too long.",
        "msg_reply_data_append-payload-too-large",
    ),
    (
        "ic0.msg_reject: application payload size",
        "Try truncating the error messages that are too long.",
        "msg_reject-payload-too-large",
    ),
    (
        "ic0_certified_data_set failed because the passed data",
        "Try certifying just the hash of your data instead of the full contents.",
        "certified_data_set-payload-too-large",
    ),
    (
        "Size of method_name ",
        "Size of method_name {} exceeds the allowed limit of {}.",
        "canister-made-a-call-with-too-large-method-name",
    ),
    (
        " has a payload size of ",
        "Check the canister for errors or redesign the target API to allow shorter messages",
        "canister-made-a-call-with-too-large-payload",
    ),
    (
        ": Variable name is not a valid UTF-8 string.",
        "Provide a valid UTF-8 string for the environment variable name.",
        "",
    ),
    (": Variable name is too large.", "", ""),
    ("Error getting performance counter type ", "", ""),
    ("Environment variable ", "", ""),
    (" is out of cycles", "", ""),
)
"""Part of the words, what is advised, and where the documentation has more.

Source:
    dfinity/ic rs/embedders/src/wasmtime_embedder/system_api.rs and
    system_api/request_in_prep.rs @ 1bc0a5953, 2025-10-31; the numbers of a name that is too long
    are missing there, too.
"""


def contract_help(words: str) -> str:
    """Return what stands below the words of a contract violation; empty for nothing.

    Examples:
        >>> contract_help('"ic0_time" cannot be executed in start mode').partition("#")[2]
        'calling-a-system-api-from-the-wrong-mode'
        >>> contract_help("Canister aaaaa-aa is out of cycles")
        ''
    """
    for part, advice, place in _ADVICE:
        if part in words:
            return f"{advice} See documentation: {DOCUMENTATION}{place}" if place else advice
    return TOOLCHAIN
