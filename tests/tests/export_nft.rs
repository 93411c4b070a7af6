//! `sgctl export nft`: nft takes the ruleset of every example, and what the command line chooses is exported.
//! Rulesets of the cases are loaded by `oracle_nft`.

use std::{ffi::OsStr, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use tests::netns::Namespace;
use tests::nft;
use tests::sgctl::Sgctl;

#[test]
fn examples_are_taken_as_sgctl_prints_them() -> Result<()> {
    let namespace = Namespace::new("nft")?;
    let sgctl = Sgctl::new(&namespace)?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut examples = 0;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let file = path.to_str().context("a path in UTF-8")?;
        let export = ["export", "nft", "--policy", file];
        let ruleset = sgctl.run(export)?.ok()?.stdout;
        nft::check(&namespace, &ruleset).with_context(|| file.to_owned())?;
        let json = sgctl.json(&export)?;
        ensure!(json["ruleset"] == ruleset.as_str(), "{file}: text and JSON differ");
        // A second load replaces the first.
        nft::load(&namespace, &ruleset)?;
        nft::load(&namespace, &ruleset).with_context(|| format!("{file}, once more"))?;
        examples += 1;
    }
    ensure!(examples >= 6, "{examples} examples");
    Ok(())
}

const TWO: &str = "vpcs: [{name: v, cidrs: [10.0.0.0/16], security_groups: [{name: 'A.b_c-d:e/f(g)#h,i@[j]+k=l&m;{n}!o$p*'}], \
interfaces: [{name: here, addresses: [10.0.0.1], groups: ['A.b_c-d:e/f(g)#h,i@[j]+k=l&m;{n}!o$p*'], device: eth7}, \
{name: elsewhere, addresses: [10.0.0.2]}]}]";

#[test]
fn the_command_line_chooses() -> Result<()> {
    let namespace = Namespace::new("nft")?;
    let sgctl = Sgctl::new(&namespace)?;
    let policy = sgctl.policy("two.yaml", TWO)?;
    let export = |words: &str| {
        let file =
            [OsStr::new("export"), OsStr::new("nft"), OsStr::new("--policy"), policy.as_ref()];
        sgctl.run(file.into_iter().chain(words.split_whitespace().map(OsStr::new)))
    };
    for (words, part) in [
        ("", "iifname \"eth7\" goto sg_here_ingress"),
        ("--interface here", "oifname \"eth7\" goto sg_here_egress"),
        ("--interface here --side workload", "iifname \"eth7\" goto sg_here_egress"),
        ("--device eth7", "iifname \"eth7\" goto sg_here_ingress"),
        ("--interface elsewhere --device tap3", "iifname \"tap3\" goto sg_elsewhere_ingress"),
    ] {
        let ruleset = export(words)?.ok().context(words)?.stdout;
        ensure!(ruleset.contains(part), "{words}: {part} is not in {ruleset}");
        nft::check(&namespace, &ruleset).context(words)?;
    }
    for (words, part) in [
        ("--interface elsewhere", "name one with --device"),
        ("--interface nobody", "no interface \"nobody\""),
        ("--interface here --device eth*", "cannot be named"),
        ("--device unknown", "say which one it is with --interface"),
    ] {
        let refused = export(words)?;
        ensure!(refused.code == Some(1) && refused.stderr.contains(part), "{words}: {refused:?}");
        ensure!(refused.stdout.is_empty(), "{words}: {refused:?}");
    }
    Ok(())
}
