/// Calls another canister that keeps notes, and counts how its calls ended.
import Principal "mo:core/Principal";

persistent actor Relay {
  type Store = actor {
    put : (Nat64, Text) -> async ?Text;
    get : query (Nat64) -> async ?Text;
  };

  var replied = 0;
  var failed = 0;

  public func put_there(store : Principal, number : Nat64, text : Text) : async ?Text {
    let there : Store = actor (Principal.toText(store));
    try {
      let old = await there.put(number, text);
      replied += 1;
      old;
    } catch _ {
      failed += 1;
      null;
    };
  };

  public query func counts() : async (Nat, Nat) {
    (replied, failed);
  };
};
