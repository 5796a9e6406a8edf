//! The tidy test: rules of `CONTRIBUTING.md` that no compiler checks.
//!
//! Each rule is a function from the tree's files to complaints, and a test that there are none. A
//! complaint says what to do. Every rule is also run on a small bad sample, so that it can fail.
//!
//! It reads the checkout: every text file but what git ignores. Where to start: `the_tree_is_tidy`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// One text file of the checkout.
struct File {
    /// Path from the root, with `/`.
    path: String,
    text: String,
    /// For Rust: the text with comments blanked, line for line. Otherwise empty.
    code: String,
    /// For Rust: the code with string literals blanked too. Otherwise empty.
    bare: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        let code = if is_rust(path) { blank_comments(text) } else { String::new() };
        let bare = blank_strings(&code);
        Self { path: path.to_owned(), text: text.to_owned(), code, bare }
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn is_rust(&self) -> bool {
        is_rust(&self.path)
    }

    /// Lines of code (Rust) or of text (all else), numbered from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let text = if self.is_rust() { &self.code } else { &self.text };
        text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines of code before the file's unit tests.
    fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
    }

    /// The same without what stands in string literals.
    fn bare_product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.product_lines().zip(self.bare.lines()).map(|((number, _), line)| (number, line))
    }
}

fn is_rust(path: &str) -> bool {
    extension(path) == "rs"
}

fn extension(path: &str) -> &str {
    Path::new(path).extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

/// A rule: the complaints about these files.
type Rule = fn(&[File]) -> Vec<String>;

const RULES: &[(&str, Rule)] = &[
    ("names say what is inside", vague_names),
    ("types are named after things", vague_types),
    ("crates name only what the design lets them", foreign_words),
    ("wire/ stands alone", wire_imports),
    ("wire numbers live in error.rs", scattered_wire_numbers),
    ("error maps are exhaustive", catch_all_errors),
    ("every lifted lint has its reason", unreasoned_lints),
    ("nothing is left for later", leftovers),
    ("no test is skipped", skipped_tests),
    ("texts speak of the project alone", machine_traces),
    ("every dependency has its line of reason", unreasoned_dependencies),
    ("every file says what it is for", missing_headers),
    ("siblings have the same files", unlike_siblings),
    ("links lead somewhere", dead_links),
    ("decisions have their form", misshapen_decisions),
];

#[test]
fn the_tree_is_tidy() {
    let files = read_tree();
    assert!(files.iter().any(|file| file.path == "Cargo.toml"), "the checkout was not found");
    let mut report = String::new();
    for (name, rule) in RULES {
        let complaints = rule(&files);
        if !complaints.is_empty() {
            report += &format!("\n{name}:\n  {}\n", complaints.join("\n  "));
        }
    }
    assert!(report.is_empty(), "{report}");
}

#[test]
fn crates_depend_one_way() {
    let complaints = forbidden_edges(&cargo_metadata());
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

// ---- names ----------------------------------------------------------------------------------------

/// Names under which everything can be put, so that nothing is found.
const VAGUE_NAMES: &[&str] = &[
    "common",
    "data",
    "helper",
    "helpers",
    "info",
    "manager",
    "misc",
    "processor",
    "stuff",
    "util",
    "utils",
];

fn vague_names(files: &[File]) -> Vec<String> {
    let mut complaints = BTreeSet::new();
    let sources = ["rs", "js", "mjs", "cjs", "java", "sql", "proto", "sh"];
    for file in files.iter().filter(|file| sources.contains(&extension(&file.path))) {
        for part in file.path.split('/') {
            let stem = part.split('.').next().unwrap_or_default();
            if VAGUE_NAMES.contains(&stem) {
                complaints
                    .insert(format!("{}: \"{stem}\" says nothing; name it after what it holds", file.path));
            }
        }
    }
    complaints.into_iter().collect()
}

fn vague_types(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        for (index, line) in file.bare.lines().enumerate() {
            let words: Vec<&str> = identifiers(line).collect();
            for pair in words.windows(2) {
                let vague = ["Manager", "Helper", "Processor", "Util", "Utils"];
                if ["struct", "enum", "trait"].contains(&pair[0])
                    && vague.iter().any(|ending| pair[1].ends_with(ending))
                {
                    complaints.push(format!(
                        "{}:{}: name {} after the thing it is",
                        file.path,
                        index + 1,
                        pair[1]
                    ));
                }
            }
        }
    }
    complaints
}

// ---- borders --------------------------------------------------------------------------------------

/// What the code of a crate must not name (design, section 2), as an identifier or as a word of one.
const FOREIGN_WORDS: &[(&str, &[&str])] = &[
    (
        "core",
        &[
            "axum",
            "easemob",
            "http",
            "hyper",
            "instant",
            "leancloud",
            "nats",
            "postgres",
            "prost",
            "protobuf",
            "sql",
            "sqlite",
            "systemtime",
            "tokio",
            "websocket",
        ],
    ),
    ("store", &["axum", "easemob", "http", "hyper", "leancloud", "msync", "prost", "protobuf", "websocket"]),
    ("transport", &["easemob", "leancloud", "msync", "posthouse_core", "prost", "protobuf", "sqlite"]),
    ("leancloud", &["easemob", "msync", "posthouse_store", "rusqlite", "sqlite"]),
    ("easemob", &["leancloud", "posthouse_store", "rusqlite", "sqlite"]),
];

fn foreign_words(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (krate, words) in FOREIGN_WORDS {
        let folder = format!("crates/{krate}/src/");
        for file in files.iter().filter(|file| file.is_rust() && file.path.starts_with(&folder)) {
            for (number, line) in file.product_lines() {
                let foreign = |word: &&str| {
                    identifiers(line).any(|found| found.eq_ignore_ascii_case(word) || has_word(found, word))
                };
                if let Some(word) = words.iter().copied().find(foreign) {
                    complaints.push(format!(
                        "{}:{number}: {krate} must not know \"{word}\"; convert at the border (design, section 2)",
                        file.path
                    ));
                }
            }
        }
    }
    complaints
}

fn wire_imports(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    let in_wire = |path: &str| {
        let rest = path.strip_prefix("crates/").and_then(|rest| rest.split_once('/'));
        rest.is_some_and(|(_, rest)| rest.starts_with("src/wire/") || rest == "src/wire.rs")
    };
    for file in files.iter().filter(|file| file.is_rust() && in_wire(&file.path)) {
        let is_root = file.path.ends_with("/wire/mod.rs") || file.path.ends_with("/wire.rs");
        for (number, line) in file.product_lines() {
            let outside = line.match_indices("crate::").any(|(at, _)| {
                !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
                    && !line[at + "crate::".len()..].starts_with("wire")
            });
            let above = line.contains("super::super::") || (is_root && line.contains("super::"));
            let other = identifiers(line).any(|word| ["posthouse_core", "tokio"].contains(&word));
            if outside || above || other {
                complaints.push(format!(
                    "{}:{number}: wire/ is bytes and types only; move what needs more to inbound.rs or outbound.rs",
                    file.path
                ));
            }
        }
    }
    complaints
}

const GATEWAYS: &[&str] = &["leancloud", "easemob"];

fn scattered_wire_numbers(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for gateway in GATEWAYS {
        let folder = format!("crates/{gateway}/src/");
        let exempt = [format!("{folder}error.rs")];
        for file in files
            .iter()
            .filter(|file| file.is_rust() && file.path.starts_with(&folder) && !exempt.contains(&file.path))
        {
            for (number, line) in file.bare_product_lines() {
                let is_number = |word: &str| word.parse().is_ok_and(|n: u32| (4_100..4_500).contains(&n));
                if let Some(word) = identifiers(line).find(|word| is_number(&word.replace('_', ""))) {
                    complaints.push(format!(
                        "{}:{number}: {word} is a number of the wire; give it a name in {folder}error.rs",
                        file.path
                    ));
                }
            }
        }
    }
    complaints
}

fn catch_all_errors(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    let maps: Vec<String> = GATEWAYS.iter().map(|gateway| format!("crates/{gateway}/src/error.rs")).collect();
    for file in files.iter().filter(|file| maps.contains(&file.path)) {
        for (number, line) in file.product_lines().filter(|(_, line)| line.trim_start().starts_with("_ =>")) {
            complaints.push(format!(
                "{}:{number}: \"{}\": name every cause, so that a new one must be given its number",
                file.path,
                line.trim()
            ));
        }
    }
    complaints
}

/// The crates of ours that each may depend on, for its product and its build. Tests may use the
/// testkit everywhere.
const EDGES: &[(&str, &[&str])] = &[
    ("posthouse-core", &[]),
    ("posthouse-store", &["posthouse-core"]),
    ("posthouse-cluster", &["posthouse-core"]),
    ("posthouse-transport", &[]),
    ("posthouse-leancloud", &["posthouse-core", "posthouse-transport"]),
    ("posthouse-easemob", &["posthouse-core", "posthouse-transport"]),
    ("posthouse-admin", &["posthouse-core", "posthouse-transport"]),
    (
        "posthouse",
        &[
            "posthouse-admin",
            "posthouse-cluster",
            "posthouse-core",
            "posthouse-easemob",
            "posthouse-leancloud",
            "posthouse-store",
            "posthouse-transport",
        ],
    ),
    (
        "posthouse-testkit",
        &[
            "posthouse",
            "posthouse-admin",
            "posthouse-cluster",
            "posthouse-core",
            "posthouse-easemob",
            "posthouse-leancloud",
            "posthouse-store",
            "posthouse-transport",
        ],
    ),
];

/// What the domain may use of others' crates: nothing with a runtime, a socket or a file in it.
const DOMAIN_CRATES: &[&str] =
    &["async-trait", "bytes", "metrics", "regex", "serde", "serde_json", "sha2", "thiserror", "tracing"];

/// Others' crates that would carry something over a border.
const FOREIGN_CRATES: &[(&str, &[&str])] = &[
    ("posthouse-store", &["axum", "hyper", "prost", "tokio-tungstenite"]),
    ("posthouse-cluster", &["axum", "prost", "rusqlite"]),
    ("posthouse-transport", &["prost", "rusqlite"]),
    ("posthouse-leancloud", &["refinery", "rusqlite", "tokio-tungstenite"]),
    ("posthouse-easemob", &["refinery", "rusqlite", "tokio-tungstenite"]),
    ("posthouse-admin", &["refinery", "rusqlite", "prost"]),
];

fn forbidden_edges(metadata: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in array(&metadata["packages"]) {
        let name = text(&package["name"]);
        let Some((_, allowed)) = EDGES.iter().find(|(krate, _)| *krate == name) else {
            complaints.push(format!(
                "{name}: a new crate needs its line in EDGES of tidy.rs and in ARCHITECTURE.md"
            ));
            continue;
        };
        for dependency in array(&package["dependencies"]) {
            let (other, kind) = (text(&dependency["name"]), text(&dependency["kind"]));
            if kind == "dev" {
                if other.starts_with("posthouse") && other != "posthouse-testkit" {
                    complaints
                        .push(format!("{name} tests with {other}: use the testkit, or put the test there"));
                }
                continue;
            }
            if other.starts_with("posthouse") && !allowed.contains(&other) {
                complaints.push(format!(
                    "{name} depends on {other}, which the design forbids (ARCHITECTURE.md, borders)"
                ));
            }
            if name == "posthouse-core" && !other.starts_with("posthouse") && !DOMAIN_CRATES.contains(&other)
            {
                complaints.push(format!(
                    "{name} depends on {other}: the domain has no runtime, wire or engine; use a port"
                ));
            }
            if FOREIGN_CRATES.iter().any(|(krate, foreign)| *krate == name && foreign.contains(&other)) {
                complaints.push(format!(
                    "{name} depends on {other}, which belongs to another crate's side of the border"
                ));
            }
        }
    }
    complaints
}

// ---- promises in code -----------------------------------------------------------------------------

fn unreasoned_lints(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let code = &file.bare;
        for opening in ["[allow(", "[expect("] {
            for (at, _) in code.match_indices(opening) {
                if !code[..at].ends_with('#') && !code[..at].ends_with("#!") {
                    continue;
                }
                let end = code[at..].find(")]").map_or(code.len(), |length| at + length);
                if !code[at..end].contains("reason") {
                    let number = code[..at].matches('\n').count() + 1;
                    complaints
                        .push(format!("{}:{number}: say why the lint is lifted: reason = \"…\"", file.path));
                }
            }
        }
    }
    complaints
}

fn leftovers(files: &[File]) -> Vec<String> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let macros = [concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("db", "g!(")];
    let mut complaints = Vec::new();
    let sources = ["rs", "js", "mjs", "cjs", "java", "sql", "proto", "sh", "toml", "html"];
    for file in files.iter().filter(|file| sources.contains(&extension(&file.path)) || file.path == "test") {
        for (index, line) in file.text.lines().enumerate() {
            let marked = identifiers(line).any(|word| marks.contains(&word));
            if marked || macros.iter().any(|name| line.contains(name)) {
                complaints.push(format!(
                    "{}:{}: finish it now or open an issue: {}",
                    file.path,
                    index + 1,
                    line.trim()
                ));
            }
        }
    }
    complaints
}

fn skipped_tests(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    let (ignored, disabled) = (concat!("#[ig", "nore"), concat!("@Dis", "abled"));
    for file in files {
        for (number, line) in file.lines() {
            let skipped = (file.is_rust() && line.trim_start().starts_with(ignored))
                || (extension(&file.path) == "java" && line.trim_start().starts_with(disabled));
            if skipped {
                complaints.push(format!(
                    "{}:{number}: a test runs or goes; a known failure is recorded",
                    file.path
                ));
            }
        }
    }
    complaints
}

fn machine_traces(files: &[File]) -> Vec<String> {
    // Written in halves, so that this file passes.
    let traces = [
        concat!("/wo", "rk/"),
        concat!("/tmp/", "team"),
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("registry.np", "mjs.org"),
        concat!("registry.np", "mmirror.com"),
        concat!("repo1.ma", "ven.org"),
        concat!("repo.ma", "ven.apache.org"),
        concat!("static.cr", "ates.io"),
        concat!("index.cr", "ates.io"),
        concat!("py", "pi.org"),
        concat!("deb.deb", "ian.org"),
    ];
    let mut complaints = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            if let Some(trace) = traces.iter().find(|trace| line.contains(**trace)) {
                complaints.push(format!(
                    "{}:{}: \"{trace}\" is of one machine; leave it out",
                    file.path,
                    index + 1
                ));
            }
        }
    }
    complaints
}

fn unreasoned_dependencies(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.path == "Cargo.toml") {
        let section =
            file.text.lines().enumerate().skip_while(|(_, line)| *line != "[workspace.dependencies]").skip(1);
        for (index, line) in section.take_while(|(_, line)| !line.starts_with('[')) {
            let Some((name, rest)) = line.split_once('=') else { continue };
            let ours = rest.contains("path =");
            let reason = rest.rsplit_once(" # ").map_or("", |(_, reason)| reason.trim());
            if !ours && !line.starts_with('#') && (reason.is_empty() || reason == name.trim()) {
                complaints.push(format!(
                    "{}:{}: say in one line why we need {}",
                    file.path,
                    index + 1,
                    name.trim()
                ));
            }
        }
    }
    complaints
}

fn missing_headers(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.is_rust())
        .filter(|file| {
            let first = file.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
            first.is_none_or(|line| !line.starts_with("//! ") || line.len() < 12)
        })
        .map(|file| format!("{}: begin with \"//!\": what this file is for", file.path))
        .collect()
}

// ---- documents and siblings -----------------------------------------------------------------------

/// Folders that do the same job twice and are read side by side.
const SIBLINGS: &[[&str; 2]] = &[
    ["crates/leancloud/src", "crates/easemob/src"],
    ["crates/store/src/sqlite", "crates/store/src/postgres"],
];

/// What only one of two siblings has to do.
const ONLY_CHILDREN: &[(&str, &str)] = &[
    ("crates/easemob/src", "sync.rs"),
    ("crates/easemob/src", "guesses.rs"),
    ("crates/easemob/src", "error/rest.rs"),
];

fn unlike_siblings(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for [left, right] in SIBLINGS {
        let names = |folder: &str| -> BTreeSet<String> {
            let prefix = format!("{folder}/");
            files
                .iter()
                .filter(|file| file.is_rust())
                .filter_map(|file| file.path.strip_prefix(&prefix))
                .filter(|rest| !rest.starts_with("wire/") && !rest.starts_with("rest/"))
                .filter(|rest| !ONLY_CHILDREN.contains(&(folder, rest)))
                .map(str::to_owned)
                .collect()
        };
        let (of_left, of_right) = (names(left), names(right));
        if of_left.is_empty() || of_right.is_empty() {
            continue;
        }
        for name in of_left.symmetric_difference(&of_right) {
            complaints.push(format!("{name} is in only one of {left} and {right}: same job, same file name"));
        }
    }
    complaints
}

fn dead_links(files: &[File]) -> Vec<String> {
    let known: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let exists =
        |path: &str| known.contains(path) || known.iter().any(|file| file.starts_with(&format!("{path}/")));
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| extension(&file.path) == "md") {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (index, line) in file.text.lines().enumerate() {
            for (_, rest) in line.match_indices("](").map(|(at, found)| (at, &line[at + found.len()..])) {
                let target = rest.split(')').next().unwrap_or_default();
                let target = target.split('#').next().unwrap_or_default();
                if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let path = join(folder, target);
                if !exists(&path) {
                    complaints.push(format!("{}:{}: there is no {path}", file.path, index + 1));
                }
            }
        }
    }
    complaints
}

/// `target` seen from `folder`, without `.` and `..`.
fn join(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn misshapen_decisions(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
    let index = files.iter().find(|file| file.path == "docs/adr/README.md").map_or("", |file| &file.text);
    for file in files.iter().filter(|file| file.path.starts_with("docs/adr/") && file.name() != "README.md") {
        let number = file.name().split('-').next().unwrap_or_default();
        if number.len() != 4 || number.parse::<u16>().is_err() {
            complaints.push(format!("{}: name it NNNN-what-was-decided.md", file.path));
        }
        if let Some(other) = numbers.insert(number, &file.path) {
            complaints.push(format!("{} has the number of {other}: take the next free one", file.path));
        }
        for heading in ["## Context", "## Decision", "## Consequences"] {
            if !file.text.lines().any(|line| line == heading) {
                complaints.push(format!("{}: the section \"{heading}\" is missing", file.path));
            }
        }
        if file.text.lines().count() > 70 {
            complaints.push(format!("{}: a decision is one page; leave out what the code says", file.path));
        }
        if !index.contains(file.name()) {
            complaints.push(format!("{}: list it in docs/adr/README.md", file.path));
        }
    }
    complaints
}

// ---- reading --------------------------------------------------------------------------------------

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every text file of the checkout. Folders that git ignores are left out by name.
fn read_tree() -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    let ignored = [".git", ".test", "artifacts", "data", "node_modules", "target"];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(root().join(&folder)).expect("the checkout can be read");
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = folder.join(&name);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !ignored.contains(&name.as_str()) => folders.push(path),
                Ok(kind) if kind.is_file() => {
                    let bytes = std::fs::read(root().join(&path)).unwrap_or_default();
                    if let Ok(text) = std::str::from_utf8(&bytes)
                        && !text.contains('\0')
                        && !path.starts_with("fuzz/corpus")
                    {
                        files.push(File::new(&path.to_string_lossy().replace('\\', "/"), text));
                    }
                }
                _ => {}
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn cargo_metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs this test, so it can be run");
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Identifiers and numbers, as they stand.
fn identifiers(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Whether an identifier in snake or camel case has `word` (lower case) among its words.
fn has_word(identifier: &str, word: &str) -> bool {
    let mut snake = String::new();
    for c in identifier.chars() {
        if c.is_uppercase() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake.split('_').any(|part| part == word)
}

/// Rust without its comments; every line keeps its number.
fn blank_comments(text: &str) -> String {
    blank(text, false)
}

/// Rust without what stands in its string literals.
fn blank_strings(text: &str) -> String {
    blank(text, true)
}

/// Replaces comments, and with `strings` also the inside of string literals, by spaces.
fn blank(text: &str, strings: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let erase = |out: &mut [u8], from: usize, to: usize| {
        for byte in &mut out[from..to] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let end = if rest.starts_with(b"//") {
            let end = at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            erase(&mut out, at, end);
            end
        } else if rest.starts_with(b"/*") {
            let end = at + text[at..].find("*/").map_or(rest.len(), |length| length + 2);
            erase(&mut out, at, end);
            end
        } else if let (false, Some(length)) = (word_before, raw_string(rest)) {
            if strings {
                erase(&mut out, at, at + length);
            }
            at + length
        } else if rest[0] == b'"' {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            let end = (end + 1).min(bytes.len());
            if strings && end - 1 > at {
                erase(&mut out, at + 1, end - 1);
            }
            end
        } else if rest.starts_with(b"'\"'") {
            at + 3
        } else if rest.starts_with(b"'\\") {
            at + 2 + rest[2..].iter().position(|byte| *byte == b'\'').map_or(1, |length| length + 1).max(2)
        } else {
            at + 1
        };
        at = end.min(bytes.len());
    }
    String::from_utf8(out).unwrap_or_default()
}

/// The length of the raw string that `bytes` begin with.
fn raw_string(bytes: &[u8]) -> Option<usize> {
    let start = usize::from(bytes.first() == Some(&b'b'));
    if bytes.get(start) != Some(&b'r') {
        return None;
    }
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = start + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &bytes[open + 1..];
    let length =
        body.windows(close.len()).position(|window| window == close).unwrap_or(body.len() - close.len());
    Some(open + 1 + length + close.len())
}

// ---- the rules can fail ---------------------------------------------------------------------------

/// Asserts that `rule` complains of each bad file by itself and of none of the good ones.
fn assert_rule(rule: Rule, bad: &[(&str, &str)], good: &[(&str, &str)]) {
    for (path, text) in bad {
        assert_eq!(rule(&[File::new(path, text)]).len(), 1, "{path}: {text}");
    }
    for (path, text) in good {
        assert_eq!(rule(&[File::new(path, text)]), [""; 0], "{path}: {text}");
    }
}

#[test]
fn names_that_say_nothing_are_found() {
    assert_rule(
        vague_names,
        &[
            ("crates/core/src/utils.rs", ""),
            ("crates/common/src/lib.rs", ""),
            ("conformance/js/helpers.mjs", ""),
        ],
        &[("crates/core/src/message.rs", ""), ("docs/data.md", "")],
    );
    assert_rule(
        vague_types,
        &[("a.rs", "pub struct SessionManager;"), ("a.rs", "trait StoreHelper {}")],
        &[
            ("a.rs", "pub struct Router;"),
            ("a.rs", "// struct SessionManager"),
            ("a.rs", "use x::FooManager;"),
        ],
    );
}

#[test]
fn words_from_over_the_border_are_found() {
    assert_rule(
        foreign_words,
        &[
            ("crates/core/src/a.rs", "use tokio::sync::mpsc;"),
            ("crates/core/src/a.rs", "fn leancloud_id() {}"),
            ("crates/core/src/a.rs", "let t = SystemTime::now();"),
            ("crates/store/src/a.rs", "use axum::Router;"),
            ("crates/leancloud/src/a.rs", "use posthouse_store::Sqlite;"),
        ],
        &[
            ("crates/core/src/a.rs", "/// LeanCloud allows 64 characters.\nfn f() {}"),
            ("crates/core/src/a.rs", "let instantly = combinations();"),
            ("crates/posthouse/src/a.rs", "use posthouse_store::Sqlite;"),
        ],
    );
    assert_rule(
        wire_imports,
        &[
            ("crates/leancloud/src/wire/a.rs", "use crate::error::Code;"),
            ("crates/leancloud/src/wire/a.rs", "use super::super::error::Code;"),
            ("crates/leancloud/src/wire/mod.rs", "use super::error::Code;"),
            ("crates/leancloud/src/wire/a.rs", "use posthouse_core::id::ClientId;"),
        ],
        &[
            ("crates/leancloud/src/wire/a.rs", "use crate::wire::frame;\nuse super::frame;"),
            ("crates/leancloud/src/wire/a.rs", "pub(crate) fn f() {}"),
            ("crates/leancloud/src/inbound.rs", "use crate::error::Code;"),
        ],
    );
}

#[test]
fn wire_numbers_and_catch_alls_are_found() {
    assert_rule(
        scattered_wire_numbers,
        &[
            ("crates/leancloud/src/inbound.rs", "refuse(4303)"),
            ("crates/leancloud/src/rest/a.rs", "code: 4_112,"),
        ],
        &[
            ("crates/leancloud/src/error.rs", "Self::Over => 4323,"),
            ("crates/leancloud/src/inbound.rs", "let buffer = 4096; // 4303\nlet x = \"4303\";"),
            ("crates/leancloud/src/inbound.rs", "#[cfg(test)]\nassert_eq!(code, 4303);"),
        ],
    );
    assert_rule(
        catch_all_errors,
        &[("crates/leancloud/src/error.rs", "match error {\n    _ => 4,\n}")],
        &[("crates/leancloud/src/error.rs", "match error {\n    Error::NotMember => 4,\n}")],
    );
}

#[test]
fn lifted_lints_leftovers_and_skipped_tests_are_found() {
    assert_rule(
        unreasoned_lints,
        &[("a.rs", "#[allow(dead_code)]\nfn f() {}"), ("a.rs", "#![expect(\n    dead_code\n)]")],
        &[
            ("a.rs", "#[allow(dead_code, reason = \"generated\")]"),
            ("a.rs", "let x = \"#[allow(dead_code)]\";"),
            ("a.rs", "#[expect(\n    dead_code,\n    reason = \"generated\"\n)]"),
        ],
    );
    assert_rule(
        leftovers,
        &[
            ("a.rs", concat!("// TO", "DO: later")),
            ("a.mjs", concat!("// FIX", "ME")),
            ("a.rs", concat!("to", "do!()")),
            ("a.rs", concat!("db", "g!(x)")),
        ],
        &[("a.rs", "let todos = 1;"), ("CONTRIBUTING.md", concat!("no TO", "DO"))],
    );
    assert_rule(
        skipped_tests,
        &[("a.rs", concat!("#[ig", "nore]\nfn f() {}")), ("A.java", concat!("@Dis", "abled"))],
        &[("a.rs", "// #[ignored]"), ("a.rs", "let ignored = 1;")],
    );
}

#[test]
fn traces_reasons_and_headers_are_found() {
    assert_rule(
        machine_traces,
        &[("a.md", concat!("see /ho", "me/ann/x")), ("a.json", concat!("https://registry.np", "mjs.org/x"))],
        &[("a.md", "the homepage")],
    );
    let manifest = |line: &str| format!("[workspace.dependencies]\n{line}\n\n[profile.dev]\ndebug = 1\n");
    assert_rule(
        unreasoned_dependencies,
        &[("Cargo.toml", &manifest("bytes = \"1\"")), ("Cargo.toml", &manifest("bytes = \"1\" # bytes"))],
        &[
            ("Cargo.toml", &manifest("bytes = \"1\" # shared bodies")),
            ("Cargo.toml", &manifest("a = { path = \"a\" }")),
        ],
    );
    assert_rule(
        missing_headers,
        &[("a.rs", "fn f() {}"), ("a.rs", "//!\nfn f() {}"), ("a.rs", "")],
        &[("a.rs", "//! What it is for.\n"), ("a.md", "")],
    );
}

#[test]
fn unlike_siblings_dead_links_and_misshapen_decisions_are_found() {
    let file = |path: &str| File::new(path, "");
    let alike = [file("crates/leancloud/src/inbound.rs"), file("crates/easemob/src/inbound.rs")];
    assert_eq!(unlike_siblings(&alike), [""; 0]);
    let unlike = [file("crates/leancloud/src/inbound.rs"), file("crates/easemob/src/in.rs")];
    assert_eq!(unlike_siblings(&unlike).len(), 2);
    assert_eq!(unlike_siblings(&unlike[..1]), [""; 0]);

    assert_rule(
        dead_links,
        &[("docs/a.md", "[b](b.md)"), ("docs/a.md", "[b](../b.md#part)")],
        &[("docs/a.md", "[a](a.md) [a](../docs/a.md#x) [x](https://example.com) [here](#here)")],
    );

    let decision = "# 1\n\n## Context\n\n## Decision\n\n## Consequences\n";
    let listed = |name: &str, text: &str| {
        [File::new("docs/adr/README.md", name), File::new(&format!("docs/adr/{name}"), text)]
    };
    assert_eq!(misshapen_decisions(&listed("0001-ids.md", decision)), [""; 0]);
    assert_eq!(misshapen_decisions(&listed("ids.md", decision)).len(), 1);
    assert_eq!(misshapen_decisions(&listed("0001-ids.md", "## Context\n## Decision\n")).len(), 1);
    assert_eq!(misshapen_decisions(&listed("0001-ids.md", &decision.repeat(20))).len(), 1);
    assert_eq!(misshapen_decisions(&[File::new("docs/adr/0001-ids.md", decision)]).len(), 1);
}

#[test]
fn forbidden_edges_are_found() {
    let package = |name: &str, dependency: &str, kind: Value| serde_json::json!({"packages": [{"name": name, "dependencies": [{"name": dependency, "kind": kind}]}]});
    let bad = [
        package("posthouse-core", "tokio", Value::Null),
        package("posthouse-store", "posthouse-leancloud", Value::Null),
        package("posthouse-leancloud", "rusqlite", Value::Null),
        package("posthouse-leancloud", "posthouse-store", "build".into()),
        package("posthouse-transport", "posthouse-core", "dev".into()),
        package("posthouse-common", "bytes", Value::Null),
    ];
    for metadata in &bad {
        assert_eq!(forbidden_edges(metadata).len(), 1, "{metadata}");
    }
    let good = [
        package("posthouse-core", "bytes", Value::Null),
        package("posthouse-core", "proptest", "dev".into()),
        package("posthouse-store", "posthouse-testkit", "dev".into()),
        package("posthouse", "posthouse-store", Value::Null),
    ];
    for metadata in &good {
        assert_eq!(forbidden_edges(metadata), [""; 0], "{metadata}");
    }
}

#[test]
fn comments_and_strings_are_told_apart() {
    let code = "let a = \"// no comment\"; // comment\n/* a\nb */ let b = r#\"\"/*\"#; let c = '\"'; let d = '\\''; // x";
    let blanked = blank_comments(code);
    assert_eq!(blanked.lines().count(), code.lines().count());
    assert!(blanked.contains("// no comment") && blanked.contains("let d"));
    assert!(!blanked.contains("// comment") && !blanked.contains("b */") && !blanked.contains("// x"));
    let bare = blank_strings("f(\"4303\", 7)");
    assert!(!bare.contains("4303") && bare.contains('7'));
}
