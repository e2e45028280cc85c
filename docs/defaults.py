"""What a canister's keywords are by default, for the site: their signature leaves it to a class."""

from griffe import Extension, Function


class Defaults(Extension):
    """Takes the defaults of `Canister` from where they stand."""

    def on_function(self, *, func: Function, **_: object) -> None:
        """Complete the signature, when the extension before has given it its keywords."""
        if func.canonical_path == "sqlstable.canister.canister.Canister.__init__":
            choices = func.package["canister.choices.Choices"]
            for parameter in func.parameters:
                if parameter.name in choices.members:
                    parameter.default = choices[parameter.name].value
