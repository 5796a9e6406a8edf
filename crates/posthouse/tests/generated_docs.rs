//! The references in `docs/` are generated from the code; a difference fails here.
//! `POSTHOUSE_UPDATE_DOCS=1 cargo test -p posthouse --test generated_docs` writes them anew.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::path::Path;

use posthouse::config::Config;
use posthouse_core::app::{PRESET, PRESETS, Settings};
use posthouse_leancloud::error::{Code, Operation, table};

fn check(name: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("POSTHOUSE_UPDATE_DOCS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/{name} is not what the code says; write it anew with POSTHOUSE_UPDATE_DOCS=1"
    );
}

#[test]
fn performance() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // The page, and a chart for each ladder that was climbed.
    for (path, wanted) in posthouse::bench::page::render(&root).unwrap() {
        check(path.strip_prefix("docs").unwrap().to_str().unwrap(), &wanted);
    }
}

const GENERATED: &str = "<!-- Generated from the code; change the doc comments there. -->\n";

#[test]
fn configuration() {
    let mut text = format!("# Configuration\n\n{GENERATED}\n");
    text.push_str(
        "Each option is a key in `posthouse.toml`, an environment variable, and a flag of `posthouse serve` \
         (the key with `-` for `_`). The flag wins over the environment, the environment over the file. \
         Unknown keys are refused. `posthouse check-config` prints what is in force.\n\n\
         | key | environment | default | meaning |\n|---|---|---|---|\n",
    );
    for option in Config::describe() {
        let default =
            if option.default.is_empty() { "none".to_owned() } else { format!("`{}`", option.default) };
        writeln!(text, "| `{}` | `{}` | {default} | {} |", option.key, option.env, option.meaning).unwrap();
    }
    text.push_str(
        "\n## Settings of an app\n\n\
         Kept in the store, changed with `posthouse app set NAME KEY=VALUE` while the server runs. \
         A change takes effect within a second, for clients that are logged in, too.\n\n\
         | key | default | values | meaning |\n|---|---|---|---|\n",
    );
    for setting in Settings::describe() {
        writeln!(
            text,
            "| `{}` | `{}` | {} | {} |",
            setting.name, setting.default, setting.range, setting.meaning
        )
        .unwrap();
    }
    text.push_str(
        "\nSeveral at once, by the name of a preset; single ones can follow in the same command:\n\n\
         | preset | what it is | sets |\n|---|---|---|\n",
    );
    for preset in PRESETS {
        let values: Vec<String> =
            preset.values.iter().map(|(name, value)| format!("`{name}={value}`")).collect();
        writeln!(text, "| `{PRESET}={}` | {} | {} |", preset.name, preset.meaning, values.join(", "))
            .unwrap();
    }
    check("configuration.md", &text);
}

#[test]
fn errors() {
    let mut text = format!("# Errors\n\n{GENERATED}\n");
    text.push_str(
        "What the LeanCloud wire answers. A refused command has no effect, and the connection lives on \
         unless the code is one of the close codes 4107, 4108, 4109 and 4114. `reason` on the wire is the name, \
         `detail` says in words what was wrong.\n\n\
         | code | name | when |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        writeln!(text, "| {} | `{}` | {} |", code.number(), code.name(), code.meaning().trim()).unwrap();
    }
    text.push_str(
        "\n## Causes\n\nThe same cause can have different numbers in different commands, because SDKs expect it.\n\n\
         | cause | code | commands |\n|---|---|---|\n",
    );
    let mut rows: Vec<(String, i32, Vec<&str>)> = Vec::new();
    for row in table() {
        match rows.iter_mut().find(|(cause, number, _)| *cause == row.cause && *number == row.number) {
            Some((_, _, operations)) => operations.push(row.operation),
            None => rows.push((row.cause, row.number, vec![row.operation])),
        }
    }
    for (cause, number, operations) in rows {
        let operations =
            if operations.len() == Operation::ALL.len() { "all".to_owned() } else { operations.join("; ") };
        writeln!(text, "| {cause} | {number} | {operations} |").unwrap();
    }
    easemob_errors(&mut text);
    check("errors.md", &text);
}

fn easemob_errors(text: &mut String) {
    text.push_str(
        "\n## The Easemob wire\n\nWhat the socket answers to a login or to something sent: `errorCode` and `reason` of \
         the status. A refused login ends the connection, anything else has no effect.\n\n\
         | cause | code | reason | to |\n|---|---|---|---|\n",
    );
    let mut rows: Vec<(String, String, String, Vec<&str>)> = Vec::new();
    for row in posthouse_easemob::error::table() {
        let code = format!("{} `{}`", row.code, row.name);
        let same = |known: &&mut (String, String, String, Vec<&str>)| {
            (&known.0, &known.1, &known.2) == (&row.cause, &code, &row.reason)
        };
        match rows.iter_mut().find(same) {
            Some((.., operations)) => operations.push(row.operation),
            None => rows.push((row.cause, code, row.reason, vec![row.operation])),
        }
    }
    for (cause, code, reason, operations) in rows {
        writeln!(text, "| {cause} | {code} | {reason} | {} |", operations.join(", ")).unwrap();
    }
    text.push_str(
        "\n## Easemob's REST API\n\nEvery refusal is a JSON object with `error`, `error_description` and, where SDKs ask for \
         it, `error_code`. Parameters of single calls have words of their own, most of them those of the hosted \
         service.\n\n| when | status | `error` | `error_description` | `error_code` |\n|---|---|---|---|---|\n",
    );
    for row in posthouse_easemob::error::rest::table() {
        let code = row.code.map(|code| code.to_string()).unwrap_or_default();
        let words = row.description.trim();
        writeln!(text, "| {} | {} | `{}` | {words} | {code} |", row.when, row.status, row.error).unwrap();
    }
}
