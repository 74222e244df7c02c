//! Cases of the session store.

use sigil_store::{
    ApprovalState, CallEnd, CallStart, Decision, MessageRole, NewApproval, NewMessage, NewReply, Part, SessionFilter,
    SessionStore, StoreFailed, TurnEnd, TurnState,
};
use sigil_types::{
    ApprovalId, Author, ChannelRef, Code, Digest, Effect, EventId, Label, Origin, Outcome, SessionId, ToolName, TurnId,
    Untrusted,
};

use crate::common::{at, by_owner, cli, inbound, owner, said, session};

type Store = dyn SessionStore;

async fn begun(store: &Store) -> SessionId {
    store.create_session(session(SessionId::generate(at(0)))).await.unwrap().id
}

/// A turn whose message was accepted, in `session`.
async fn accepted(store: &Store, session: SessionId, key: &str) -> TurnId {
    store.accept(inbound(session, key)).await.unwrap().turn.inbound.turn
}

/// The same, running.
async fn running(store: &Store, session: SessionId, key: &str) -> TurnId {
    let turn = accepted(store, session, key).await;
    store.start_turn(turn, vec![], at(2)).await.unwrap();
    turn
}

fn call(id: &str, effect: Effect) -> CallStart {
    let tool: ToolName = "files.write".parse().unwrap();
    CallStart { call: id.to_owned(), tool, effect, receipt: EventId::generate(at(2)), at: at(2) }
}

fn came_back(id: &str) -> CallEnd {
    CallEnd { call: id.to_owned(), ok: true, at: at(3) }
}

fn ended(outcome: Outcome) -> TurnEnd {
    TurnEnd { outcome, code: None, messages: vec![], reply: None, at: at(9) }
}

fn replied(text: &str) -> TurnEnd {
    let content = Untrusted::new(Origin::Model, text.to_owned());
    let reply = Some(NewReply { channel: cli(), content, label: by_owner() });
    TurnEnd { reply, ..ended(Outcome::Completed) }
}

#[track_caller]
fn is_state<T: std::fmt::Debug>(answer: Result<T, StoreFailed>) {
    assert!(matches!(answer, Err(StoreFailed::State { .. })), "{answer:?}");
}

#[track_caller]
fn is_absent<T: std::fmt::Debug>(answer: Result<T, StoreFailed>) {
    assert!(matches!(answer, Err(StoreFailed::Absent { .. })), "{answer:?}");
}

#[track_caller]
fn is_conflict<T: std::fmt::Debug>(answer: Result<T, StoreFailed>) {
    assert!(matches!(answer, Err(StoreFailed::Conflict { .. })), "{answer:?}");
}

pub(crate) async fn sessions_begin_are_listed_and_archived(store: &Store) {
    assert_eq!(store.workspace().as_str(), "home");
    let ids: Vec<SessionId> = (0..4).map(|_| SessionId::generate(at(0))).collect();
    for id in &ids {
        let made = store.create_session(session(*id)).await.unwrap();
        assert_eq!(store.session(*id).await.unwrap(), Some(made));
    }
    is_conflict(store.create_session(session(ids[0])).await);
    let listed = async |filter| -> Vec<SessionId> {
        store.sessions(filter).await.unwrap().into_iter().map(|session| session.id).collect()
    };
    let newest_first: Vec<SessionId> = ids.iter().rev().copied().collect();
    assert_eq!(listed(SessionFilter::default()).await, newest_first);
    assert_eq!(listed(SessionFilter { before: Some(ids[2]), limit: 1, ..Default::default() }).await, [ids[1]]);
    assert!(listed(SessionFilter { user: Some("eve".parse().unwrap()), ..Default::default() }).await.is_empty());
    let newest = async |user: &str| {
        store.find_session(cli(), String::new(), user.parse().unwrap()).await.unwrap().map(|session| session.id)
    };
    assert_eq!((newest("ann").await, newest("eve").await), (Some(ids[3]), None));
    assert_eq!(store.archive_session(ids[3], at(5)).await.unwrap().archived, Some(at(5)));
    assert_eq!(store.archive_session(ids[3], at(6)).await.unwrap().archived, Some(at(5)));
    assert_eq!(newest("ann").await, Some(ids[2]));
    assert_eq!(listed(SessionFilter::default()).await, newest_first[1..]);
    assert_eq!(listed(SessionFilter { archived: true, ..Default::default() }).await, newest_first);
    let unknown = SessionId::generate(at(0));
    assert_eq!(store.session(unknown).await.unwrap(), None);
    is_absent(store.archive_session(unknown, at(7)).await);
}

pub(crate) async fn a_label_only_rises(store: &Store) {
    let id = begun(store).await;
    let world = Label::by(Author::World);
    assert_eq!(store.raise_label(id, by_owner()).await.unwrap(), by_owner());
    let both = by_owner().join(&world);
    assert_eq!(store.raise_label(id, world).await.unwrap(), both);
    assert_eq!(store.raise_label(id, Label::bottom()).await.unwrap(), both);
    assert_eq!(store.session(id).await.unwrap().unwrap().label, both);
    is_absent(store.raise_label(SessionId::generate(at(0)), Label::top()).await);
}

pub(crate) async fn content_is_kept_exactly(store: &Store) {
    let id = begun(store).await;
    let large = "ß".repeat(300_000);
    let texts = [
        "",
        "\0nul\0",
        "ends in space ",
        "e\u{301} \u{200b}\u{e0041}\u{202e}",
        "'; DROP TABLE message; --",
        "\r\n\t",
        &large,
    ];
    let messages = texts.iter().map(|text| said(MessageRole::User, text)).collect();
    assert_eq!(store.append_messages(id, messages).await.unwrap(), 7);
    let kept = store.messages(id, 0, 100).await.unwrap();
    assert!(kept.iter().map(|message| message.content.inspect().as_str()).eq(texts));
    assert!(kept.iter().map(|message| message.seq).eq(1..=7));
    assert!(kept.iter().all(|message| *message.content.origin() == Origin::Owner && message.label == by_owner()));
    let part = Part::ToolResult { call: "c\"1".to_owned(), tool: "no such tool".to_owned(), ok: false };
    let result = NewMessage { part: part.clone(), ..said(MessageRole::Tool, "{}") };
    store.append_messages(id, vec![result]).await.unwrap();
    let last = store.window(id, 1).await.unwrap().pop().unwrap();
    assert_eq!((last.part, last.role, last.at), (part, MessageRole::Tool, at(1)));
}

pub(crate) async fn the_window_is_the_end_of_the_transcript(store: &Store) {
    let (one, other) = (begun(store).await, begun(store).await);
    for number in 0..30 {
        store.append_messages(one, vec![said(MessageRole::User, &number.to_string())]).await.unwrap();
    }
    store.append_messages(other, vec![said(MessageRole::User, "elsewhere")]).await.unwrap();
    let places = |messages: Vec<sigil_store::Message>| messages.iter().map(|message| message.seq).collect::<Vec<_>>();
    assert_eq!(places(store.window(one, 3).await.unwrap()), [28, 29, 30]);
    assert_eq!(places(store.window(one, 100).await.unwrap()).len(), 30);
    assert_eq!(places(store.window(one, 0).await.unwrap()), [0_u64; 0]);
    assert_eq!(places(store.messages(one, 27, 2).await.unwrap()), [28, 29]);
    assert_eq!(places(store.messages(other, 0, 100).await.unwrap()), [1]);
    assert_eq!(store.session(one).await.unwrap().unwrap().messages, 30);
    is_absent(store.append_messages(SessionId::generate(at(0)), vec![]).await);
    // All or none: the second message names a turn that is not there.
    let stray = NewMessage { turn: Some(TurnId::generate(at(0))), ..said(MessageRole::User, "stray") };
    is_absent(store.append_messages(one, vec![said(MessageRole::User, "good"), stray]).await);
    // Nor may it name a turn of another session.
    let elsewhere = accepted(store, other, "m").await;
    let stray = NewMessage { turn: Some(elsewhere), ..said(MessageRole::User, "stray") };
    is_absent(store.append_messages(one, vec![stray]).await);
    assert_eq!(store.session(one).await.unwrap().unwrap().messages, 30);
}

pub(crate) async fn a_message_is_accepted_once(store: &Store) {
    let id = begun(store).await;
    let first = inbound(id, "m1");
    let turn = first.turn;
    let taken = store.accept(first).await.unwrap();
    assert!(taken.fresh && taken.turn.state == TurnState::Accepted);
    let again = store.accept(inbound(id, "m1")).await.unwrap();
    assert!(!again.fresh);
    assert_eq!(again.turn.inbound.turn, turn);
    store.start_turn(turn, vec![], at(2)).await.unwrap();
    store.end_turn(turn, ended(Outcome::Completed)).await.unwrap();
    let late = store.accept(inbound(id, "m1")).await.unwrap();
    assert!(!late.fresh && late.turn.state == TurnState::Finished, "not even when it is over");
    let mut elsewhere = inbound(id, "m1");
    elsewhere.channel = ChannelRef("web".parse().unwrap());
    assert!(store.accept(elsewhere).await.unwrap().fresh, "another channel has keys of its own");
    is_absent(store.accept(inbound(SessionId::generate(at(0)), "m2")).await);
    let mut reused = inbound(id, "m3");
    reused.turn = turn;
    is_conflict(store.accept(reused).await);
    assert_eq!(store.turns(id, 10).await.unwrap().len(), 2);
    let kept = store.turn(turn).await.unwrap().unwrap();
    assert_eq!(kept.inbound.content.inspect(), "message m1");
    assert_eq!((kept.inbound.principal, kept.inbound.label), (owner(), by_owner()));
}

pub(crate) async fn a_turn_goes_its_way_once(store: &Store) {
    let id = begun(store).await;
    is_absent(store.start_turn(TurnId::generate(at(0)), vec![], at(1)).await);
    let turn = accepted(store, id, "m1").await;
    is_state(store.requeue_turn(turn, at(2)).await);
    store.start_turn(turn, vec![said(MessageRole::User, "hello")], at(2)).await.unwrap();
    is_state(store.start_turn(turn, vec![said(MessageRole::User, "hello")], at(3)).await);
    let window = store.window(id, 10).await.unwrap();
    assert_eq!((window.len(), window[0].turn), (1, Some(turn)), "a refused step adds nothing");
    let code = Some(Code::new("gate.clear.input.blocked"));
    store.end_turn(turn, TurnEnd { code: code.clone(), ..ended(Outcome::Refused) }).await.unwrap();
    is_state(store.end_turn(turn, ended(Outcome::Completed)).await);
    is_state(store.start_call(turn, call("c1", Effect::None), vec![]).await);
    let over = store.turn(turn).await.unwrap().unwrap();
    assert_eq!((over.state, over.outcome, over.code), (TurnState::Finished, Some(Outcome::Refused), code));
}

pub(crate) async fn a_call_is_marked_before_and_after(store: &Store) {
    let id = begun(store).await;
    let turn = accepted(store, id, "m1").await;
    is_state(store.start_call(turn, call("c1", Effect::Local), vec![]).await);
    store.start_turn(turn, vec![], at(2)).await.unwrap();
    is_absent(store.finish_call(turn, came_back("c1"), vec![]).await);
    store.start_call(turn, call("c1", Effect::Local), vec![said(MessageRole::Assistant, "{}")]).await.unwrap();
    is_conflict(store.start_call(turn, call("c1", Effect::Local), vec![said(MessageRole::Assistant, "{}")]).await);
    store.finish_call(turn, came_back("c1"), vec![said(MessageRole::Tool, "done")]).await.unwrap();
    is_state(store.finish_call(turn, came_back("c1"), vec![said(MessageRole::Tool, "done")]).await);
    assert_eq!(store.window(id, 10).await.unwrap().len(), 2);
    store.start_call(turn, call("c0", Effect::None), vec![]).await.unwrap();
    let calls = store.unfinished().await.unwrap().pop().unwrap().calls;
    let kept: Vec<_> = calls.iter().map(|call| (call.start.call.as_str(), call.end.is_some())).collect();
    assert_eq!(kept, [("c1", true), ("c0", false)], "in the order of their start");
}

pub(crate) async fn the_end_of_a_turn_is_one_step(store: &Store) {
    let id = begun(store).await;
    let turn = running(store, id, "m1").await;
    // A message that cannot be kept undoes state and reply with it.
    let stray = NewMessage { turn: Some(TurnId::generate(at(0))), ..said(MessageRole::Assistant, "x") };
    is_absent(store.end_turn(turn, TurnEnd { messages: vec![stray], ..replied("answer") }).await);
    assert_eq!(store.turn(turn).await.unwrap().unwrap().state, TurnState::Running);
    assert!(store.reply(turn).await.unwrap().is_none());
    let answer = said(MessageRole::Assistant, "answer");
    store.end_turn(turn, TurnEnd { messages: vec![answer], ..replied("answer") }).await.unwrap();
    assert_eq!(store.reply(turn).await.unwrap().unwrap().content.inspect(), "answer");
    assert_eq!(store.window(id, 1).await.unwrap()[0].content.inspect(), "answer");
    assert!(store.unfinished().await.unwrap().is_empty());
}

pub(crate) async fn what_was_under_way_is_found_again(store: &Store) {
    let id = begun(store).await;
    let mut turns = vec![accepted(store, id, "waits").await];
    for key in ["thinks", "read", "wrote", "writing", "over"] {
        turns.push(running(store, id, key).await);
    }
    store.start_call(turns[2], call("c", Effect::None), vec![]).await.unwrap();
    store.start_call(turns[3], call("c", Effect::External), vec![]).await.unwrap();
    store.finish_call(turns[3], came_back("c"), vec![]).await.unwrap();
    store.start_call(turns[4], call("c", Effect::Local), vec![]).await.unwrap();
    store.end_turn(turns[5], ended(Outcome::Stopped)).await.unwrap();
    let open = store.unfinished().await.unwrap();
    let found: Vec<_> = open.iter().map(|open| (open.turn.inbound.turn, open.may_go_on())).collect();
    let expected = [true, true, true, true, false];
    assert!(found.iter().copied().eq(turns.iter().copied().zip(expected)), "{found:?}");
    for turn in &turns[1..4] {
        store.requeue_turn(*turn, at(5)).await.unwrap();
    }
    is_state(store.requeue_turn(turns[4], at(5)).await);
    store.end_turn(turns[4], ended(Outcome::Interrupted)).await.unwrap();
    let open = store.unfinished().await.unwrap();
    assert!(open.iter().all(|open| open.turn.state == TurnState::Accepted) && open.len() == 4);
    assert_eq!(store.turn(turns[4]).await.unwrap().unwrap().state, TurnState::Interrupted);
}

pub(crate) async fn a_reply_is_sent_once(store: &Store) {
    let id = begun(store).await;
    let mut turns = Vec::new();
    for key in ["a", "b"] {
        let turn = running(store, id, key).await;
        is_absent(store.mark_sent(turn, at(3)).await);
        store.end_turn(turn, replied(&format!("reply {key}"))).await.unwrap();
        turns.push(turn);
    }
    let unsent =
        async || -> Vec<TurnId> { store.unsent().await.unwrap().into_iter().map(|reply| reply.turn).collect() };
    assert_eq!(unsent().await, turns);
    assert!(store.mark_sent(turns[0], at(10)).await.unwrap());
    assert!(!store.mark_sent(turns[0], at(11)).await.unwrap());
    assert_eq!(unsent().await, turns[1..]);
    let sent = store.reply(turns[0]).await.unwrap().unwrap();
    assert_eq!((sent.sent, sent.session, sent.channel), (Some(at(10)), id, cli()));
}

async fn asked(store: &Store, key: &str) -> NewApproval {
    let session = begun(store).await;
    let turn = running(store, session, key).await;
    let plan = format!("{{ \"argv\" : [\"{key}\"] }}");
    let digest = Digest::of(plan.as_bytes());
    let id = ApprovalId::generate(at(3));
    let approval = NewApproval { id, turn, plan, digest, label: Label::top(), at: at(3), expires: at(1000) };
    store.ask(approval.clone()).await.unwrap();
    approval
}

fn decision(approval: &NewApproval, approved: bool) -> Decision {
    Decision { digest: approval.digest, approved, by: owner(), at: at(500) }
}

pub(crate) async fn an_approval_is_answered_once_for_its_plan(store: &Store) {
    let (yes, no) = (asked(store, "yes").await, asked(store, "no").await);
    is_conflict(store.ask(yes.clone()).await);
    let pending = store.approvals(true, 10).await.unwrap();
    assert!(pending.iter().map(|approval| &approval.asked).eq([&no, &yes]), "newest first, the plan byte for byte");
    is_state(store.decide(yes.id, Decision { digest: Digest::of(b"other"), ..decision(&yes, true) }).await);
    assert_eq!(store.approval(yes.id).await.unwrap().unwrap().state, ApprovalState::Pending);
    let decided = store.decide(yes.id, decision(&yes, true)).await.unwrap();
    assert_eq!(
        (decided.state, &decided.by, decided.resolved),
        (ApprovalState::Approved, &Some(owner()), Some(at(500)))
    );
    assert_eq!(store.approval(yes.id).await.unwrap().unwrap(), decided);
    is_state(store.decide(yes.id, decision(&yes, false)).await);
    assert_eq!(store.decide(no.id, decision(&no, false)).await.unwrap().state, ApprovalState::Denied);
    assert!(store.approvals(true, 10).await.unwrap().is_empty());
    assert_eq!(store.approvals(false, 10).await.unwrap().len(), 2);
    is_absent(store.decide(ApprovalId::generate(at(0)), decision(&no, true)).await);
}

pub(crate) async fn an_approval_that_is_late_is_no(store: &Store) {
    let (late, forgotten, over) = (asked(store, "a").await, asked(store, "b").await, asked(store, "c").await);
    is_state(store.decide(late.id, Decision { at: at(1000), ..decision(&late, true) }).await);
    assert_eq!(store.approval(late.id).await.unwrap().unwrap().state, ApprovalState::Expired, "and stays so");
    store.end_turn(over.turn, ended(Outcome::Stopped)).await.unwrap();
    assert_eq!(store.approval(over.id).await.unwrap().unwrap().state, ApprovalState::Expired);
    is_state(store.ask(NewApproval { id: ApprovalId::generate(at(4)), ..over }).await);
    assert!(store.expire_approvals(at(999)).await.unwrap().is_empty());
    assert_eq!(store.expire_approvals(at(1000)).await.unwrap(), [forgotten.id]);
    assert!(store.expire_approvals(at(2000)).await.unwrap().is_empty());
    let record = store.approval(forgotten.id).await.unwrap().unwrap();
    assert_eq!((record.state, record.by, record.resolved), (ApprovalState::Expired, None, Some(at(1000))));
}

/// Writes that nobody waits for are done all the same, in the order in which they were asked for.
pub(crate) async fn many_at_once_keep_their_order(store: &Store) {
    let id = begun(store).await;
    let waiting: Vec<_> =
        (0..200).map(|number| store.append_messages(id, vec![said(MessageRole::User, &number.to_string())])).collect();
    let refused = store.append_messages(SessionId::generate(at(0)), vec![said(MessageRole::User, "x")]);
    drop(store.append_messages(id, vec![said(MessageRole::User, "200")]));
    is_absent(refused.await);
    let kept = store.messages(id, 0, 1000).await.unwrap();
    assert!(kept.iter().map(|message| message.content.inspect().clone()).eq((0..=200).map(|n: u32| n.to_string())));
    for (place, waiting) in (1..).zip(waiting) {
        assert_eq!(waiting.await.unwrap(), place);
    }
}
