"""The management canister, ``aaaaa-aa``: what of it needs no network.

It answers in the same queue as canisters do, at once; stopping is answered when the canister has
stopped. What needs a network, a key or nodes is rejected, and the reject names what is not there.

**Limitations.** A canister's history is not kept: ``canister_info`` knows the number of changes and
none of them. Storage is taken from no balance; ``canister_status`` says what would be burned.
"""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from random import Random
from typing import Any, Final

from sqlstable.errors import CandidError, SettingsError
from sqlstable.ic.canister_figures import CanisterFigures
from sqlstable.ic.principals import principal_of, principal_text
from sqlstable.replica.call_contexts import Answer, CallMessage, Origin, StopRequest
from sqlstable.replica.code_steps import CodeStep, CodeSteps, InstallMode
from sqlstable.replica.figures import figures_of
from sqlstable.replica.housed import CYCLES_MAX, CanisterSettings, HousedCanister, RunStatus
from sqlstable.replica.management_interface import MISSING, management_interface
from sqlstable.replica.rejects import (
    Reason,
    RejectCode,
    Rejection,
    not_found,
    rejected,
)
from sqlstable.replica.traffic import EMPTY_REPLY, Traffic
from sqlstable.wasm.environment import ReplyData

NewCanister = Callable[[str | None, bytes | None, CanisterSettings, int], HousedCanister]
"""Makes a canister, of a name, a principal, settings and a balance."""

_RANDOM_BYTES: Final = 32
_CHUNK_BYTES_MAX: Final = 1 << 20
_PROVISIONAL_CYCLES: Final = 100_000_000_000_000
_OWN_STATUS: Final = ("canister_status",)
"""Methods that a canister may call about itself, whoever controls it."""

_ANYBODY: Final = ("canister_info", "canister_metadata", "deposit_cycles")
_PROVISIONAL: Final = ("provisional_top_up_canister",)

Fields = dict[str, Any]


class RefusedError(Exception):
    """What was asked for is rejected."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.message)
        self.rejection = rejection


class ManagementCanister:
    """Answers what canisters and those outside ask of the system.

    Args:
        traffic: Has the canisters.
        steps: Change code.
        new: Makes canisters.
        seed: Of ``raw_rand``.
    """

    def __init__(self, traffic: Traffic, steps: CodeSteps, new: NewCanister, *, seed: int) -> None:
        self._traffic = traffic
        self._steps = steps
        self._new = new
        self._random = Random(seed)  # noqa: S311  two runs are to be equal

    def take(self, call: CallMessage) -> tuple[Answer | None, int]:
        """Carry a call out; returns the answer, None for later, and the cycles it accepts."""
        try:
            return self._take(call)
        except RefusedError as error:
            return error.rejection, 0

    # -- what replicas do as well -----------------------------------------------------------------

    def stop(self, canister: HousedCanister, origin: Origin, cycles: int) -> None:
        """Stop a canister, and answer when it is."""
        canister.version += 1
        if canister.status is RunStatus.STOPPED:
            self._traffic.answer(origin, ReplyData(EMPTY_REPLY), cycles)
            return
        canister.status = RunStatus.STOPPING
        request = StopRequest(origin, cycles, self._traffic.runner.time_ns)
        self._traffic.stop_requests.setdefault(canister.id, []).append(request)
        self._traffic.settle_stop(canister)

    def start(self, canister: HousedCanister) -> None:
        """Let a canister run; whoever waited for it to stop is rejected."""
        canister.version += 1
        canister.status = RunStatus.RUNNING
        for request in self._traffic.stop_requests.pop(canister.id, ()):
            words = f"Canister {principal_text(canister.id)} stopping was cancelled"
            cancelled = rejected(Reason.STOPPING_CANCELLED, words)
            self._traffic.answer(request.origin, cancelled, request.cycles)

    def delete(self, canister: HousedCanister) -> Rejection | None:
        """Delete a canister; returns why not."""
        shown = principal_text(canister.id)
        if canister.status is not RunStatus.STOPPED:
            words = f"Canister {shown} must be stopped before it is deleted."
            return rejected(Reason.NOT_STOPPED, words)
        if canister.memory is not None:
            canister.memory.close()
            canister.memory = canister.module = None
            canister.exports = frozenset()
        del self._traffic.canisters[canister.id]
        return None

    # -- inside ---------------------------------------------------------------------------------

    def _take(self, call: CallMessage) -> tuple[Answer | None, int]:
        method, interface = call.method, management_interface()
        if method in MISSING:
            words = f"{method} cannot be answered here: there is no {MISSING[method]} in a replica"
            words += " without a network; test that with PocketIC"
            raise RefusedError(Rejection(RejectCode.CANISTER_REJECT, words))
        if method not in interface.methods:
            words = f"Management canister has no method '{method}'"
            raise RefusedError(rejected(Reason.UNKNOWN_MANAGEMENT_MESSAGE, words))
        try:
            arguments = interface.decode_arguments_json(method, call.argument)
        except CandidError as error:
            words = f"Error decoding candid: {error}"
            raise RefusedError(rejected(Reason.INVALID_MANAGEMENT_PAYLOAD, words)) from None
        fields: Fields = arguments[0] if arguments else {}
        accepted = 0
        match method:
            case "stop_canister":
                canister = self._controlled(call, fields["canister_id"])
                self.stop(canister, call.origin, call.cycles)
                return None, 0
            case "create_canister":
                accepted, reply = self._create(call, fields)
            case "deposit_cycles":
                accepted = call.cycles
                self._found(fields["canister_id"]).cycles += accepted
                reply = []
            case "provisional_create_canister_with_cycles":
                reply = self._create_provisional(call, fields)
            case "provisional_top_up_canister":
                reply = self._top_up(fields)
            case "raw_rand":
                reply = [_hex(self._random.randbytes(_RANDOM_BYTES))]
            case "canister_info" | "canister_metadata":
                reply = self._tell(call, fields)
            case _:
                reply = self._control(call, fields)
        return ReplyData(interface.encode_reply(method, reply)), accepted

    def _control(self, call: CallMessage, fields: Fields) -> list[Any]:
        """Carry out what controllers may."""
        name = fields.get("canister_id") or fields["target_canister"]
        canister = self._controlled(call, name)
        match call.method:
            case "update_settings":
                canister.settings = _changed(canister.settings, fields["settings"])
                canister.version += 1
            case "canister_status":
                return [_status(canister, figures_of(canister))]
            case "start_canister":
                self.start(canister)
            case "delete_canister":
                self._delete(call, canister)
            case "uninstall_code":
                self._steps.uninstall(canister, caller=call.caller, label=call.label)
                canister.version += 1
                self._traffic.uninstall(canister)
            case "upload_chunk":
                return [_upload(canister, _bytes(fields["chunk"]))]
            case "clear_chunk_store":
                canister.chunks.clear()
            case "stored_chunks":
                return [[{"hash": _hex(it)} for it in sorted(canister.chunks)]]
            case "install_code":
                self._install(call, canister, fields, _bytes(fields["wasm_module"]))
            case "install_chunked_code":
                self._install(call, canister, fields, self._joined(call, canister, fields))
        return []

    def _create(self, call: CallMessage, fields: Fields) -> tuple[int, list[Any]]:
        fee = self._traffic.fees.canister_creation
        if call.cycles < fee:
            words = (
                f"Creating a canister requires a fee of {fee} that is deducted from the canister's "
                f"initial balance but only {call.cycles} cycles were received with the "
                "create_canister request."
            )
            raise RefusedError(rejected(Reason.CREATION_NOT_PAID, words))
        settings = _changed(CanisterSettings((call.caller,)), fields.get("settings") or {})
        canister = self._new(None, None, settings, call.cycles - fee)
        canister.cycles_paid = fee
        return call.cycles, [{"canister_id": principal_text(canister.id)}]

    def _create_provisional(self, call: CallMessage, fields: Fields) -> list[Any]:
        settings = _changed(CanisterSettings((call.caller,)), fields.get("settings") or {})
        amount, wanted = fields.get("amount"), fields.get("specified_id")
        cycles = _PROVISIONAL_CYCLES if amount is None else int(amount)
        try:
            principal = None if wanted is None else principal_of(wanted)
            canister = self._new(None, principal, settings, cycles)
        except SettingsError as error:
            raise RefusedError(rejected(Reason.CANISTER_ID_EXISTS, str(error))) from None
        return [{"canister_id": principal_text(canister.id)}]

    def _top_up(self, fields: Fields) -> list[Any]:
        canister = self._found(fields["canister_id"])
        amount = min(int(fields["amount"]), CYCLES_MAX - canister.cycles)
        canister.cycles += amount
        return []

    def _delete(self, call: CallMessage, canister: HousedCanister) -> None:
        if call.caller == canister.id:
            words = f"Canister {principal_text(canister.id)} cannot delete itself."
            raise RefusedError(rejected(Reason.INVALID_CONTROLLER, words))
        refusal = self.delete(canister)
        if refusal is not None:
            raise RefusedError(refusal)

    def _install(
        self, call: CallMessage, canister: HousedCanister, fields: Fields, module: bytes
    ) -> None:
        mode, options = _mode(fields["mode"])
        persistence = options.get("wasm_memory_persistence")
        step = CodeStep(
            mode,
            module,
            _bytes(fields["arg"]),
            bool(options.get("skip_pre_upgrade")),
            None if persistence is None else "keep" in persistence,
            call.caller,
            call.label,
        )
        refusal = self._steps.install(canister, step)
        if refusal is not None:
            raise RefusedError(refusal)

    def _joined(self, call: CallMessage, canister: HousedCanister, fields: Fields) -> bytes:
        """Return the module that chunks make."""
        store = fields.get("store_canister")
        source = canister if store is None else self._found(store)
        if source is not canister and call.caller != source.id:
            self._check_controller(call, source)
        hashes = [_bytes(it["hash"]) for it in fields["chunk_hashes_list"]]
        missing = [it for it in hashes if it not in source.chunks]
        if missing:
            words = f"Error from Wasm chunk store: Chunk hash {missing[0].hex()} was not found"
            raise RefusedError(rejected(Reason.CONTRACT_VIOLATION, words))
        module = b"".join(source.chunks[it] for it in hashes)
        if sha256(module).digest() != _bytes(fields["wasm_module_hash"]):
            words = (
                f"Wasm module hash {sha256(module).hexdigest()} does not match given "
                f"hash {_bytes(fields['wasm_module_hash']).hex()}"
            )
            raise RefusedError(rejected(Reason.CONTRACT_VIOLATION, words))
        return module

    def _tell(self, call: CallMessage, fields: Fields) -> list[Any]:
        """Answer what anybody may ask."""
        canister = self._found(fields["canister_id"])
        if call.method == "canister_info":
            return [
                {
                    "total_num_changes": canister.version,
                    "recent_changes": [],
                    "module_hash": _hash(canister),
                    "controllers": [*map(principal_text, canister.controllers)],
                }
            ]
        section = canister.metadata.get(fields["name"])
        if section is None or not (section.is_public or call.caller in canister.controllers):
            words = (
                f"The canister {principal_text(canister.id)} has no metadata section with the name "
                f"{fields['name']}."
            )
            raise RefusedError(rejected(Reason.CONTRACT_VIOLATION, words))
        return [{"value": _hex(section.content)}]

    def _found(self, name: str) -> HousedCanister:
        principal = principal_of(name)
        canister = self._traffic.canisters.get(principal)
        if canister is None:
            raise RefusedError(not_found(principal))
        return canister

    def _controlled(self, call: CallMessage, name: str) -> HousedCanister:
        canister = self._found(name)
        if not (call.method in _OWN_STATUS and call.caller == canister.id):
            self._check_controller(call, canister)
        return canister

    def _check_controller(self, call: CallMessage, canister: HousedCanister) -> None:
        if call.caller not in canister.controllers:
            controllers = " ".join(map(principal_text, canister.controllers))
            words = (
                f"Only the controllers of the canister {principal_text(canister.id)} can control "
                f"it.\nCanister's controllers: {controllers}\n"
                f"Sender's ID: {principal_text(call.caller)}"
            )
            raise RefusedError(rejected(Reason.INVALID_CONTROLLER, words))


def _mode(mode: str | Fields) -> tuple[InstallMode, Fields]:
    """Return a mode and its options."""
    name, options = (mode, None) if isinstance(mode, str) else next(iter(mode.items()))
    assert name in ("install", "reinstall", "upgrade")
    return name, options or {}  # type: ignore[return-value]


def _changed(settings: CanisterSettings, fields: Fields) -> CanisterSettings:
    """Return settings with those that are given."""
    values: Fields = {
        name: int(fields[name])
        for name in (
            *("compute_allocation", "memory_allocation", "freezing_threshold"),
            *("reserved_cycles_limit", "wasm_memory_limit", "wasm_memory_threshold"),
        )
        if fields.get(name) is not None
    }
    if fields.get("controllers") is not None:
        values["controllers"] = tuple(map(principal_of, fields["controllers"]))
    if fields.get("environment_variables") is not None:
        values["variables"] = {it["name"]: it["value"] for it in fields["environment_variables"]}
    return replace(settings, **values)


def _upload(canister: HousedCanister, chunk: bytes) -> Fields:
    if len(chunk) > _CHUNK_BYTES_MAX:
        words = (
            f"Error from Wasm chunk store: Wasm chunk size {len(chunk)} exceeds the maximum chunk "
            f"size of {_CHUNK_BYTES_MAX}."
        )
        raise RefusedError(rejected(Reason.CONTRACT_VIOLATION, words))
    digest = sha256(chunk).digest()
    canister.chunks[digest] = chunk
    return {"hash": _hex(digest)}


def _status(canister: HousedCanister, figures: CanisterFigures) -> Fields:
    settings, sizes = canister.settings, figures.sizes
    return {
        "status": canister.status.name.lower(),
        "ready_for_migration": False,
        "version": canister.version,
        "settings": {
            "controllers": [*map(principal_text, settings.controllers)],
            "compute_allocation": settings.compute_allocation,
            "memory_allocation": settings.memory_allocation,
            "freezing_threshold": settings.freezing_threshold,
            "reserved_cycles_limit": settings.reserved_cycles_limit,
            "log_visibility": "controllers",
            "log_memory_limit": 4096,
            "wasm_memory_limit": settings.wasm_memory_limit,
            "wasm_memory_threshold": settings.wasm_memory_threshold,
            "environment_variables": [
                {"name": name, "value": value} for name, value in sorted(settings.variables.items())
            ],
        },
        "module_hash": _hash(canister),
        "memory_size": sizes.total,
        "memory_metrics": {
            "wasm_memory_size": sizes.heap,
            "stable_memory_size": sizes.stable,
            "global_memory_size": sizes.globals,
            "wasm_binary_size": sizes.module,
            "custom_sections_size": sum(len(it.content) for it in canister.metadata.values()),
            "canister_history_size": sizes.history,
            "wasm_chunk_store_size": sizes.chunk_store,
            "snapshots_size": sizes.snapshots,
        },
        "cycles": str(canister.cycles),
        "reserved_cycles": figures.reserved_cycles,
        "idle_cycles_burned_per_day": str(figures.idle_cycles_per_day),
        "query_stats": dict.fromkeys(
            (
                *("num_calls_total", "num_instructions_total"),
                *("request_payload_bytes_total", "response_payload_bytes_total"),
            ),
            0,
        ),
    }


def _hash(canister: HousedCanister) -> str | None:
    return None if canister.module is None else _hex(canister.module_hash)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _bytes(blob: str) -> bytes:
    return bytes.fromhex(blob.removeprefix("0x"))
