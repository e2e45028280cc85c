/// Notes by number in a map that orthogonal persistence keeps over upgrades.
import Map "mo:core/Map";
import Nat "mo:core/Nat";
import Runtime "mo:core/Runtime";
import Text "mo:core/Text";

persistent actor class Notes(title : Text) {
  let notes = Map.empty<Nat, Text>();
  var writes = 0;
  transient var calls = 0;

  public func nothing() : async () {};

  public func put(number : Nat, text : Text) : async ?Text {
    calls += 1;
    writes += 1;
    let old = Map.get(notes, Nat.compare, number);
    Map.add(notes, Nat.compare, number, text);
    old;
  };

  /// Writes so many notes of so many bytes.
  public func fill(count : Nat, size : Nat) : async Nat {
    var text = "";
    for (_ in Nat.range(0, size)) { text #= "x" };
    for (number in Nat.range(0, count)) {
      writes += 1;
      Map.add(notes, Nat.compare, number, text);
    };
    Map.size(notes);
  };

  public func put_and_trap(number : Nat, text : Text) : async () {
    writes += 1;
    Map.add(notes, Nat.compare, number, text);
    Runtime.trap("on purpose");
  };

  public query func get(number : Nat) : async ?Text {
    Map.get(notes, Nat.compare, number);
  };

  public query func counts() : async (Nat, Nat, Nat) {
    (Map.size(notes), writes, calls);
  };

  public query func heading() : async Text {
    title;
  };
};
