//! Deciding: the truth table of `@ask`, the guard over integrity and flow, monotony in the capabilities, and what the
//! validator refuses.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use proptest::prelude::*;
use sigil_policy::sign::{SigningKey, Validity, sign};
use sigil_policy::{
    Bundle, Fact, Facts, Policy, Preset, Request, Resource, ResourceKind, Source, TrustStore, Unverified, Verdict,
};
use sigil_types::{
    Author, Authors, Capability, CapabilitySet, Effect, Hop, Label, Principal, Readers, Role, Timestamp, WorkspaceId,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Signs `source` with a throw-away key and compiles it: there is no other way to a policy.
fn compiled(source: &Source) -> Result<Policy, String> {
    let key = SigningKey::generate().expect("randomness");
    let bytes = sign(source, 1, Validity::days(NOW, 1), &key).map_err(|refused| refused.to_string())?;
    let trust = TrustStore::of_one("throw-away".parse().expect("a name"), key.public());
    let bundle = Bundle::<Unverified>::parse(&bytes).expect("an envelope").verify(&trust, NOW, 1).expect("verified");
    Ok(bundle.compile().expect("it was compiled before it was signed"))
}

/// The default policy with `cedar` instead of its rules.
fn with_rules(cedar: &str) -> Result<Policy, String> {
    let mut source = Source::embedded(Preset::Balanced).expect("the embedded policy");
    source.remove_file("labels.cedar");
    source.set_file("base.cedar", cedar).expect("a policy file");
    source.set_file("tests.toml", "").expect("a policy file");
    compiled(&source)
}

fn preset(preset: Preset) -> Policy {
    compiled(&Source::embedded(preset).expect("the embedded policy")).expect("valid")
}

fn everything() -> CapabilitySet {
    CapabilitySet { allow: ["*".parse().expect("a pattern")].into(), ..CapabilitySet::default() }
}

/// A question with everything in order; each test changes one thing.
struct Ask {
    role: Role,
    hop: Hop,
    kind: ResourceKind,
    capability: Capability,
    grants: Vec<CapabilitySet>,
    authors: Authors,
    effect: Effect,
    integrity: bool,
    flow: bool,
    approved: bool,
    facts: Facts,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            role: Role::Member,
            hop: Hop::ToTool,
            kind: ResourceKind::Tool,
            capability: "tool.files.read".parse().expect("a capability"),
            grants: vec![everything()],
            authors: Authors::one(Author::Member("ann".parse().expect("a name"))),
            effect: Effect::Local,
            integrity: true,
            flow: true,
            approved: false,
            facts: Facts::new(),
        }
    }
}

impl Ask {
    fn of(&self, policy: &Policy) -> Verdict {
        let workspace: WorkspaceId = "home".parse().expect("a name");
        policy.authorize(&Request {
            principal: &Principal { user: "ann".parse().expect("a name"), role: self.role },
            workspace: &workspace,
            hop: self.hop,
            capability: &self.capability,
            grants: &self.grants.iter().collect::<Vec<_>>(),
            resource: &Resource {
                kind: self.kind,
                id: "files.read".to_owned(),
                trust: self.authors.clone(),
                audience: Readers::NOBODY,
            },
            label: &Label { authors: self.authors.clone(), readers: Readers::Everyone },
            effect: self.effect,
            integrity: self.integrity,
            flow: self.flow,
            approved: self.approved,
            facts: &self.facts,
        })
    }
}

fn denied(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Deny { code, .. } => code.as_str(),
        other => panic!("not denied: {other:?}"),
    }
}

const PERMIT: &str = "@id(\"t.permit\") permit(principal, action, resource);\n";
const ASK: &str = "@id(\"t.ask\") @ask forbid(principal, action, resource) when { !context.approved };\n";
const ASK_TOO: &str = "@id(\"t.too\") @ask forbid(principal, action, resource) unless { context.approved };\n";
const ASK_DEAF: &str = "@id(\"t.deaf\") @ask forbid(principal, action, resource);\n";
const FORBID: &str = "@id(\"t.forbid\") forbid(principal, action, resource);\n";
const FORBID_UNAPPROVED: &str =
    "@id(\"t.unapproved\") forbid(principal, action, resource) when { !context.approved };\n";
const FORBID_APPROVED: &str = "@id(\"t.approved\") forbid(principal, action, resource) when { context.approved };\n";
const PERMIT_APPROVED: &str = "@id(\"t.permit2\") permit(principal, action, resource) when { context.approved };\n";

#[test]
fn the_truth_table_of_ask() {
    let cases: [(&[&str], &str, &[&str]); 12] = [
        (&[], "deny", &[]),
        (&[PERMIT], "allow", &[]),
        (&[PERMIT, FORBID], "deny", &["t.forbid"]),
        (&[PERMIT, ASK], "ask", &["t.ask"]),
        (&[PERMIT, ASK, ASK_TOO], "ask", &["t.ask", "t.too"]),
        (&[PERMIT, ASK, FORBID], "deny", &["t.ask", "t.forbid"]),
        (&[PERMIT, ASK, FORBID_UNAPPROVED], "deny", &["t.ask", "t.unapproved"]),
        (&[PERMIT, ASK, FORBID_APPROVED], "deny", &["t.approved"]),
        (&[PERMIT, ASK_DEAF], "deny", &["t.deaf"]),
        (&[ASK], "deny", &[]),
        (&[PERMIT_APPROVED], "deny", &[]),
        (&[PERMIT_APPROVED, ASK], "ask", &["t.ask"]),
    ];
    for (rules, expected, deciding) in cases {
        let policy = with_rules(&rules.concat()).expect("valid");
        let verdict = Ask::default().of(&policy);
        assert_eq!(verdict.as_str(), expected, "{rules:?}");
        let names: Vec<&str> = verdict.rules().iter().map(sigil_types::Code::as_str).collect();
        assert_eq!(names, deciding, "{rules:?}");
        // An approval turns `ask` into `allow`, and nothing else into anything.
        let approved = Ask { approved: true, ..Ask::default() }.of(&policy);
        let expected = if expected == "ask" { "allow" } else { expected };
        assert_eq!(approved.as_str(), expected, "{rules:?}, approved");
    }
}

#[test]
fn rules_that_forget_integrity_or_flow_deny() {
    let policy = with_rules(PERMIT).expect("valid");
    for (integrity, flow) in [(false, true), (true, false), (false, false)] {
        for approved in [false, true] {
            let verdict = Ask { integrity, flow, approved, ..Ask::default() }.of(&policy);
            assert_eq!(denied(&verdict), Verdict::LABEL_UNHANDLED.as_str());
        }
    }
}

#[test]
fn a_rule_that_cannot_be_evaluated_denies() {
    let reads_host = "@id(\"t.host\") forbid(principal, action == Action::\"to_tool\", resource) \
                      when { context.facts has host && context.facts.host like \"*.internal\" };\n";
    let policy = with_rules(&format!("{PERMIT}{reads_host}")).expect("valid");
    let ask = |fact: Option<Fact>| {
        let facts = fact.into_iter().map(|fact| ("host".to_owned(), fact)).collect();
        Ask { facts, ..Ask::default() }.of(&policy)
    };
    assert!(ask(None).is_allow());
    assert!(ask(Some(Fact::Text("example.com".to_owned()))).is_allow());
    assert_eq!(denied(&ask(Some(Fact::Text("db.internal".to_owned())))), Verdict::FORBIDDEN.as_str());
    assert_eq!(denied(&ask(Some(Fact::Number(1)))), Verdict::EVALUATION_FAILED.as_str());
    let unheard = [("unheard-of".to_owned(), Fact::Flag(true))].into();
    assert!(Ask { facts: unheard, ..Ask::default() }.of(&policy).is_allow(), "no rule can see it");
}

#[test]
fn a_resource_that_does_not_suit_the_hop_is_denied() {
    let policy = with_rules(PERMIT).expect("valid");
    let verdict = Ask { kind: ResourceKind::Memory, ..Ask::default() }.of(&policy);
    assert_eq!(denied(&verdict), Verdict::MISMATCH.as_str());
}

#[test]
fn nobody_grants_nothing() {
    let policy = with_rules(PERMIT).expect("valid");
    let verdict = Ask { grants: Vec::new(), ..Ask::default() }.of(&policy);
    assert_eq!(denied(&verdict), Verdict::CAPABILITY_MISSING.as_str());
}

#[test]
fn rules_speak_of_roles_plugins_and_authors() {
    let rules = "@id(\"t.owner\") permit(principal in Role::\"owner\", action, resource);\n\
                 @id(\"t.plugin\") forbid(principal, action == Action::\"to_tool\", resource in Plugin::\"files\") \
                 when { context.authors.contains(\"world\") || resource.audience.everyone };\n";
    let policy = with_rules(rules).expect("valid");
    let owner = || Ask { role: Role::Owner, ..Ask::default() };
    assert!(owner().of(&policy).is_allow());
    assert_eq!(denied(&Ask::default().of(&policy)), Verdict::UNPERMITTED.as_str());
    let worldly = Ask { authors: Authors::world(), ..owner() }.of(&policy);
    assert_eq!(denied(&worldly), Verdict::FORBIDDEN.as_str());
    assert_eq!(worldly.rules().len(), 1);
}

#[test]
fn rules_reach_actions_through_their_groups() {
    let mut source = Source::embedded(Preset::Balanced).expect("the embedded policy");
    source.remove_file("labels.cedar");
    let schema = source.file("schema.cedarschema").expect("there");
    let schema = schema.replace("action to_tool ", "action outward;\naction to_tool in [Action::\"outward\"] ");
    let rules = "@id(\"t.outward\") forbid(principal, action in Action::\"outward\", resource);\n\
                 @id(\"t.either\") permit(principal, action in [Action::\"outward\", Action::\"to_memory\"], resource);\n";
    source.set_file("schema.cedarschema", &schema).expect("a policy file");
    source.set_file("base.cedar", rules).expect("a policy file");
    source.set_file("tests.toml", "").expect("a policy file");
    let policy = compiled(&source).expect("valid");
    assert_eq!(denied(&Ask::default().of(&policy)), Verdict::FORBIDDEN.as_str());
    let memory = Ask { hop: Hop::ToMemory, kind: ResourceKind::Memory, ..Ask::default() };
    assert!(memory.of(&policy).is_allow());
    let channel = Ask { hop: Hop::ToChannel, kind: ResourceKind::Channel, ..Ask::default() };
    assert_eq!(denied(&channel.of(&policy)), Verdict::UNPERMITTED.as_str());
}

#[test]
fn the_validator_refuses() {
    let cases = [
        ("@id(\"t.permit\") @ask permit(principal, action, resource);", "@ask belongs on a forbid"),
        ("permit(principal, action, resource);", "no @id"),
        ("@id(\"one\") permit(principal, action, resource);", "@id"),
        ("@id(\"t.a\") @aks forbid(principal, action, resource);", "@aks"),
        ("@id(\"t.a\") permit(principal == ?principal, action, resource);", "templates"),
        ("@id(\"t.a\") permit(principal, action, resource) when { context.autors.isEmpty() };", "autors"),
        ("@id(\"t.a\") permit(principal, action == Action::\"to_nowhere\", resource);", "to_nowhere"),
        (
            "@id(\"t.a\") permit(principal, action, resource); @id(\"t.a\") forbid(principal, action, resource);",
            "twice",
        ),
        ("permit(", "base.cedar"),
    ];
    for (rules, word) in cases {
        let refused = with_rules(rules).expect_err(rules);
        assert!(refused.contains(word), "{rules}: {refused}");
    }
}

#[test]
fn a_rule_explains_itself() {
    let policy = preset(Preset::Balanced);
    let rule = "policy.flow.ask".parse().expect("a code");
    assert!(policy.why(&rule).expect("explained").contains("may not read"));
    assert_eq!(policy.why(&"policy.no.rule".parse().expect("a code")), None);
}

#[test]
fn a_plugin_s_ceiling_narrows_its_tools() {
    let mut source = Source::embedded(Preset::Balanced).expect("the embedded policy");
    source.set_file("tests.toml", "").expect("a policy file");
    source
        .edit_ceilings(|ceilings| {
            let grant = toml::from_str("capabilities = { allow = [\"tool.files.list\"], deny = [] }").expect("a grant");
            ceilings.plugins.insert("files".parse().expect("a name"), grant);
        })
        .expect("valid");
    let policy = compiled(&source).expect("valid");
    assert_eq!(denied(&Ask::default().of(&policy)), Verdict::CAPABILITY_MISSING.as_str());
}

fn set() -> impl Strategy<Value = CapabilitySet> {
    let pattern = prop_oneof![
        Just("*"),
        Just("tool.*"),
        Just("tool.files.*"),
        Just("tool.files.read"),
        Just("tool.*.read"),
        Just("kv.*")
    ]
    .prop_map(|text| text.parse().expect("a pattern"));
    let patterns = || prop::collection::btree_set(pattern.clone(), 0..3);
    (patterns(), patterns()).prop_map(|(allow, deny)| CapabilitySet { allow, deny })
}

proptest! {
    /// Another party, a further denial or one grant less never turns a denial into anything else.
    #[test]
    fn narrowing_only_narrows(
        grants in prop::collection::vec(set(), 1..4),
        more in set(),
        world in any::<bool>(), integrity in any::<bool>(), flow in any::<bool>(), approved in any::<bool>(),
        which in 0..3_usize,
    ) {
        use std::sync::LazyLock;
        static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| Preset::ALL.iter().map(|one| preset(*one)).collect());
        let policy = &POLICIES[which];
        let authors = if world { Authors::world() } else { Ask::default().authors };
        let ask = |grants: &[CapabilitySet]| {
            Ask { grants: grants.to_vec(), authors: authors.clone(), integrity, flow, approved, ..Ask::default() }.of(policy)
        };
        let before = ask(&grants);
        let with_party = [grants.as_slice(), std::slice::from_ref(&more)].concat();
        let mut with_denial = grants.clone();
        with_denial[0].deny.extend(more.deny);
        let mut with_less = grants;
        with_less[0].allow.pop_first();
        for narrower in [with_party, with_denial, with_less] {
            let after = ask(&narrower);
            prop_assert!(after == before || denied(&after) == Verdict::CAPABILITY_MISSING.as_str());
        }
        prop_assert!(approved || (integrity && flow) || !before.is_allow());
    }
}
