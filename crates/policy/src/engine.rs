//! The Cedar engine: the bundle's policies, sliced per action, asked with the facts that the gate has computed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::str::FromStr as _;

use cedar_policy::{
    ActionConstraint, Authorizer, Context, Decision, Effect as CedarEffect, Entities, Entity, EntityId, EntityTypeName,
    EntityUid, Policy as CedarPolicy, PolicyId, PolicySet, Request as CedarRequest, RestrictedExpression, Schema,
    ValidationMode, Validator,
};
use sigil_types::{Authors, Code, Effect, Hop, Readers, Role, ToolName};

use crate::nesting;
use crate::payload::Files;
use crate::request::{Fact, Request, ResourceKind};

/// What a rule's annotations say.
#[derive(Debug, Clone)]
struct Rule {
    code: Code,
    ask: bool,
    why: Option<String>,
}

/// Compiled policies. Pure: the same question always has the same answer.
#[derive(Debug)]
pub(crate) struct Engine {
    authorizer: Authorizer,
    slices: BTreeMap<Hop, Slice>,
    /// What every question needs beside its own entities.
    base: Entities,
    types: Types,
    rules: HashMap<PolicyId, Rule>,
    warnings: Vec<String>,
    bound: BTreeSet<String>,
}

/// The policies that can apply to one action.
#[derive(Debug)]
struct Slice {
    action: EntityUid,
    policies: PolicySet,
}

#[derive(Debug)]
struct Types {
    user: EntityTypeName,
    role: EntityTypeName,
    workspace: EntityTypeName,
    plugin: EntityTypeName,
    resources: BTreeMap<ResourceKind, EntityTypeName>,
}

/// What one evaluation said.
pub(crate) enum Answer {
    Allow,
    /// The rules that forbid; none when nothing permits.
    Deny(Vec<Code>),
    /// A rule failed to evaluate, or the question could not be put.
    Failed,
}

/// One question in Cedar's terms; asked once or twice.
pub(crate) struct Question {
    hop: Hop,
    principal: EntityUid,
    resource: EntityUid,
    entities: Entities,
    context: Vec<(String, RestrictedExpression)>,
}

impl Engine {
    /// Compiles schema and policies among `files`; `bound` are the providers that the ceilings name.
    pub(crate) fn compile(files: &Files, bound: BTreeSet<String>) -> Result<Self, String> {
        let source = files.get("schema.cedarschema").ok_or("schema.cedarschema is missing")?;
        nesting::check_schema(source).map_err(|what| format!("schema.cedarschema: {what}"))?;
        let (schema, schema_warnings) =
            Schema::from_cedarschema_str(source).map_err(|error| format!("schema.cedarschema: {error}"))?;
        let mut warnings: Vec<String> =
            schema_warnings.map(|warning| format!("schema.cedarschema: {warning}")).collect();
        let (set, rules) = read_policies(files)?;

        let report = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        if let Some(error) = report.validation_errors().next() {
            return Err(error.to_string());
        }
        warnings.extend(report.validation_warnings().map(ToString::to_string));

        let actions = schema.action_entities().map_err(|error| format!("schema.cedarschema: {error}"))?;
        let types = Types::new()?;
        let mut slices = BTreeMap::new();
        for hop in Hop::ALL {
            let action = uid(&EntityTypeName::from_str("Action").map_err(|error| error.to_string())?, hop.as_str());
            if actions.get(&action).is_none() {
                return Err(format!("schema.cedarschema: the action `{hop}` is missing"));
            }
            let own = set.policies().filter(|policy| applies(policy, &action, &actions)).cloned();
            let policies = PolicySet::from_policies(own).map_err(|error| error.to_string())?;
            slices.insert(*hop, Slice { action, policies });
        }
        // Rules are sliced per action already; the actions themselves are needed only where they stand in groups.
        let grouped = actions.iter().any(|action| actions.ancestors(&action.uid()).is_some_and(|up| up.count() > 0));
        let base = if grouped { actions } else { Entities::empty() };
        Ok(Self { authorizer: Authorizer::new(), slices, base, types, rules, warnings, bound })
    }

    /// What the validator found odd and did not refuse.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The `@why` of a rule.
    pub(crate) fn why(&self, code: &Code) -> Option<&str> {
        self.rules.get(&PolicyId::new(code.as_str())).and_then(|rule| rule.why.as_deref())
    }

    /// Whether all of `rules` are ones that ask.
    pub(crate) fn all_ask(&self, rules: &[Code]) -> bool {
        let asks = |code: &Code| self.rules.get(&PolicyId::new(code.as_str())).is_some_and(|rule| rule.ask);
        !rules.is_empty() && rules.iter().all(asks)
    }

    /// Puts `request` into Cedar's terms. None: it cannot be.
    pub(crate) fn question(&self, request: &Request<'_>) -> Option<Question> {
        let principal = uid(&self.types.user, request.principal.user.as_str());
        // An owner may do whatever a member may.
        let roles: &[&str] = match request.principal.role {
            Role::Owner => &["owner", "member"],
            Role::Member => &["member"],
        };
        let roles = roles.iter().map(|role| uid(&self.types.role, role)).collect();
        let user = Entity::new_no_attrs(principal.clone(), roles);

        let sink = request.resource;
        let resource = uid(self.types.resources.get(&sink.kind)?, &sink.id);
        let mut attributes = HashMap::from([
            ("trust".to_owned(), authors(&sink.trust)),
            ("audience".to_owned(), readers(&sink.audience)?),
        ]);
        if sink.kind == ResourceKind::Provider {
            attributes.insert("bound".to_owned(), RestrictedExpression::new_bool(self.bound.contains(&sink.id)));
        }
        let parents = match sink.kind {
            ResourceKind::Tool => HashSet::from([uid(&self.types.plugin, sink.id.parse::<ToolName>().ok()?.plugin())]),
            _ => HashSet::new(),
        };
        let sink = Entity::new(resource.clone(), attributes, parents).ok()?;
        let entities = self.base.clone().add_entities([user, sink], None).ok()?;
        Some(Question { hop: request.hop, principal, resource, entities, context: self.context(request)? })
    }

    fn context(&self, request: &Request<'_>) -> Option<Vec<(String, RestrictedExpression)>> {
        let effect = match request.effect {
            Effect::None => "none",
            Effect::Local => "local",
            Effect::External => "external",
        };
        let facts = request.facts.iter().map(|(name, fact)| (name.clone(), expression(fact)));
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let flag = RestrictedExpression::new_bool;
        let workspace = uid(&self.types.workspace, request.workspace.as_str());
        Some(vec![
            ("workspace".to_owned(), RestrictedExpression::new_entity_uid(workspace)),
            ("capability".to_owned(), text(request.capability.as_str())),
            ("authors".to_owned(), authors(&request.label.authors)),
            ("readers".to_owned(), readers(&request.label.readers)?),
            ("effect".to_owned(), text(effect)),
            ("integrity".to_owned(), flag(request.integrity)),
            ("flow".to_owned(), flag(request.flow)),
            ("facts".to_owned(), RestrictedExpression::new_record(facts).ok()?),
        ])
    }

    /// Evaluates `question` with `context.approved` set to `approved`.
    pub(crate) fn ask(&self, question: &Question, approved: bool) -> Answer {
        let Some(slice) = self.slices.get(&question.hop) else { return Answer::Failed };
        let approved = ("approved".to_owned(), RestrictedExpression::new_bool(approved));
        let Ok(context) = Context::from_pairs(question.context.iter().cloned().chain([approved])) else {
            return Answer::Failed;
        };
        // No schema here: what is put in above has the schema's form, and a fact of another type fails the rule that
        // reads it, which denies.
        let request = CedarRequest::new(
            question.principal.clone(),
            slice.action.clone(),
            question.resource.clone(),
            context,
            None,
        );
        let Ok(request) = request else { return Answer::Failed };
        let response = self.authorizer.is_authorized(&request, &slice.policies, &question.entities);
        // Cedar passes over a rule that fails, even one that forbids.
        if response.diagnostics().errors().next().is_some() {
            return Answer::Failed;
        }
        match response.decision() {
            Decision::Allow => Answer::Allow,
            Decision::Deny => {
                let deciding =
                    response.diagnostics().reason().map(|id| self.rules.get(id).map(|rule| rule.code.clone()));
                let Some(mut rules) = deciding.collect::<Option<Vec<Code>>>() else { return Answer::Failed };
                rules.sort();
                Answer::Deny(rules)
            }
        }
    }
}

impl Types {
    fn new() -> Result<Self, String> {
        let named = |name: &str| EntityTypeName::from_str(name).map_err(|error| error.to_string());
        let mut resources = BTreeMap::new();
        for hop in Hop::ALL {
            let kind = ResourceKind::of(*hop);
            resources.insert(kind, named(kind.entity_type())?);
        }
        Ok(Self {
            user: named("User")?,
            role: named("Role")?,
            workspace: named("Workspace")?,
            plugin: named("Plugin")?,
            resources,
        })
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn authors(authors: &Authors) -> RestrictedExpression {
    RestrictedExpression::new_set(authors.iter().map(|author| RestrictedExpression::new_string(author.to_string())))
}

fn readers(readers: &Readers) -> Option<RestrictedExpression> {
    let (everyone, names) = match readers {
        Readers::Everyone => (true, Vec::new()),
        Readers::Only(set) => {
            (false, set.iter().map(|reader| RestrictedExpression::new_string(reader.to_string())).collect())
        }
    };
    let fields = [
        ("everyone".to_owned(), RestrictedExpression::new_bool(everyone)),
        ("names".to_owned(), RestrictedExpression::new_set(names)),
    ];
    RestrictedExpression::new_record(fields).ok()
}

fn expression(fact: &Fact) -> RestrictedExpression {
    match fact {
        Fact::Flag(flag) => RestrictedExpression::new_bool(*flag),
        Fact::Number(number) => RestrictedExpression::new_long(*number),
        Fact::Text(text) => RestrictedExpression::new_string(text.clone()),
        Fact::Texts(texts) => {
            RestrictedExpression::new_set(texts.iter().map(|text| RestrictedExpression::new_string(text.clone())))
        }
    }
}

/// Reads all `*.cedar` files into one set, in which each policy's id is the code of its `@id`.
fn read_policies(files: &Files) -> Result<(PolicySet, HashMap<PolicyId, Rule>), String> {
    let mut all = PolicySet::new();
    let mut rules = HashMap::new();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".cedar")) {
        nesting::check_rules(text).map_err(|what| format!("{path}: {what}"))?;
        let set = PolicySet::from_str(text).map_err(|error| format!("{path}: {error}"))?;
        if set.num_of_templates() > 0 {
            return Err(format!("{path}: templates (`?principal`, `?resource`) are not supported"));
        }
        for policy in set.policies() {
            let rule = read_rule(policy).map_err(|what| format!("{path}: {what}, in: {}", first_line(policy)))?;
            let id = PolicyId::new(rule.code.as_str());
            all.add(policy.new_id(id.clone())).map_err(|_| format!("{path}: the id `{}` stands twice", rule.code))?;
            rules.insert(id, rule);
        }
    }
    Ok((all, rules))
}

/// Reads a policy's annotations. `@ask` stands on `forbid` only: on a permit, a broader permit would swallow it.
fn read_rule(policy: &CedarPolicy) -> Result<Rule, String> {
    if let Some((name, _)) = policy.annotations().find(|(name, _)| !matches!(*name, "id" | "ask" | "why")) {
        return Err(format!("`@{name}` is not an annotation that Sigil knows; they are @id, @ask and @why"));
    }
    let id = policy.annotation("id").ok_or("the policy has no @id(\"area.entity.reason\")")?;
    let code = id.parse::<Code>().map_err(|error| format!("@id(\"{}\"): {error}", id.escape_debug()))?;
    let ask = policy.annotation("ask").is_some();
    if ask && policy.effect() == CedarEffect::Permit {
        return Err(format!("`{code}` is a permit; @ask belongs on a forbid, where no broader rule can swallow it"));
    }
    Ok(Rule { code, ask, why: policy.annotation("why").map(str::to_owned) })
}

fn first_line(policy: &CedarPolicy) -> String {
    policy.to_string().lines().next().unwrap_or_default().chars().take(100).collect()
}

/// Whether `policy` can apply to `action`, by its scope.
fn applies(policy: &CedarPolicy, action: &EntityUid, actions: &Entities) -> bool {
    let within = |named: &EntityUid| named == action || actions.is_ancestor_of(named, action);
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(named) => named == *action,
        ActionConstraint::In(named) => named.iter().any(within),
    }
}
