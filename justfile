# One-line recipes; anything longer is Rust in `testkit` or a subcommand.

# every ring, or those named: just test rust js
test *rings:
    ./test {{rings}}

lint:
    ./test format lint deny

run:
    cargo run --release -- demo

# known vulnerabilities in what we depend on; fetches a database
advisories:
    cargo deny check advisories

# coverage-guided fuzzing on nightly, so many minutes a target
fuzz minutes="10":
    fuzz/run {{minutes}}
