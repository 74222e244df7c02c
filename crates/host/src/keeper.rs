//! [`Keeper`]: the task that watches over one instance: its end, its health, its restarts, and orders.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sigil_sandbox::client::ExitStatus;
use tokio::sync::{mpsc, oneshot};

use crate::backoff::Ends;
use crate::instance::{Shared, State, StopReason};
use crate::process::{self, Exit, Running};
use crate::record;

/// How often a plugin is asked how it is, and how long it has for the answer.
const HEALTH_EVERY: Duration = Duration::from_secs(15);
const HEALTH_TIME: Duration = Duration::from_secs(2);

/// How long a plugin that does not answer may take to end by itself before it is killed.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// So many calls given up on, and the plugin is started anew: it may still be busy with each of them.
const MOST_ABANDONED: u32 = 4;

/// What an instance can be told.
pub(crate) enum Order {
    Stop(oneshot::Sender<()>),
    Restart(oneshot::Sender<()>),
}

/// Watches over one instance, until it is stopped.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    orders: mpsc::Receiver<Order>,
    ends: Ends,
}

/// What became of a launch.
enum Became {
    /// It ended by itself.
    Ended(ExitStatus),
    /// It is not well, and was killed.
    Unhealthy,
    /// It was stopped; the rest of the order is to be done.
    Ordered(Option<Order>),
}

/// What the keeper waits for.
pub(crate) enum Phase {
    /// A running plugin to end.
    Runs(Arc<Running>, Exit),
    /// The moment of the next start.
    Waits(Instant),
    /// An order.
    Rests,
}

impl Keeper {
    /// A keeper of an instance that runs.
    pub(crate) fn new(shared: Arc<Shared>, orders: mpsc::Receiver<Order>) -> Self {
        Self { shared, orders, ends: Ends::default() }
    }

    /// Keeps until the instance is stopped.
    pub(crate) async fn keep(mut self, mut phase: Phase) {
        loop {
            phase = match phase {
                Phase::Runs(running, exit) => match self.run(running, exit).await {
                    Became::Ended(status) => {
                        let (how, number) = match status {
                            ExitStatus::Exited(code) => ("exited", Some(code)),
                            ExitStatus::Signaled(signal) => ("signal", Some(signal)),
                            ExitStatus::Killed => ("killed", None),
                        };
                        self.shared.record.note(record::ENDED, json!({ "how": how, "number": number }));
                        self.after_end()
                    }
                    Became::Unhealthy => self.after_end(),
                    Became::Ordered(order) => match self.obey(order).await {
                        Some(phase) => phase,
                        None => return,
                    },
                },
                Phase::Waits(until) => {
                    let order = tokio::select! {
                        () = tokio::time::sleep_until(until.into()) => None,
                        order = self.orders.recv() => Some(order),
                    };
                    match order {
                        None => self.launch().await,
                        Some(order) => match self.obey(order).await {
                            Some(phase) => phase,
                            None => return,
                        },
                    }
                }
                Phase::Rests => {
                    let order = self.orders.recv().await;
                    match self.obey(order).await {
                        Some(phase) => phase,
                        None => return,
                    }
                }
            };
        }
    }

    /// Carries out an order for an instance that does not run. `None` when there is nothing left to keep.
    async fn obey(&mut self, order: Option<Order>) -> Option<Phase> {
        // Whoever asked may have gone: an answer that nobody hears is no failure.
        match order {
            None => {
                self.stopped(StopReason::Ordered);
                None
            }
            Some(Order::Stop(done)) => {
                self.stopped(StopReason::Ordered);
                let _ = done.send(());
                None
            }
            Some(Order::Restart(done)) => {
                self.ends = Ends::default();
                let phase = self.launch().await;
                let _ = done.send(());
                Some(phase)
            }
        }
    }

    /// After an end that nobody wanted: a pause, or the end of patience.
    fn after_end(&mut self) -> Phase {
        let Some(pause) = self.ends.count(Instant::now()) else {
            self.stopped(StopReason::CrashLoop);
            return Phase::Rests;
        };
        let until = Instant::now() + pause;
        self.shared.enter(State::Waiting);
        self.shared.record.note(record::RESTARTING, json!({ "pause_ms": pause.as_millis() }));
        Phase::Waits(until)
    }

    /// One launch. A refusal that will not pass stops the instance.
    async fn launch(&mut self) -> Phase {
        self.shared.enter(State::Starting);
        match process::start(&self.shared).await {
            Ok((running, exit)) => {
                let running = Arc::new(running);
                self.shared.enter(State::Running(Arc::clone(&running)));
                Phase::Runs(running, exit)
            }
            Err(error) => {
                tracing::warn!(plugin = %self.shared.record.plugin, code = %error.code(), %error, "host.start");
                if error.may_pass() {
                    return self.after_end();
                }
                self.stopped(StopReason::Refused);
                Phase::Rests
            }
        }
    }

    /// Until the launch is over, and what it was refused is recorded.
    async fn run(&mut self, running: Arc<Running>, exit: Exit) -> Became {
        let launch = running.launch;
        let became = self.watch(running, exit).await;
        process::account(&self.shared, launch).await;
        became
    }

    /// Until the launch is over.
    async fn watch(&mut self, running: Arc<Running>, mut exit: Exit) -> Became {
        let mut health = tokio::time::interval(HEALTH_EVERY);
        health.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        health.reset();
        loop {
            tokio::select! {
                status = exit.wait() => return Became::Ended(status),
                order = self.orders.recv() => {
                    self.end(&running, &mut exit).await;
                    return Became::Ordered(order);
                }
                _ = health.tick() => {}
                () = running.doubt.notified() => {}
            }
            let abandoned = running.abandoned.load(std::sync::atomic::Ordering::Relaxed);
            let answer = running.client.healthy(HEALTH_TIME).await;
            if abandoned >= MOST_ABANDONED || !matches!(answer, Ok(true)) {
                // A connection that is lost is mostly the first sign of an end, which then says more.
                if let Ok(status) = tokio::time::timeout(LAST_WORDS, exit.wait()).await {
                    return Became::Ended(status);
                }
                let data = json!({ "abandoned": abandoned, "answered": answer.is_ok() });
                self.shared.record.note(record::UNHEALTHY, data);
                self.shared.enter(State::Starting);
                process::kill(&self.shared, running.launch).await;
                exit.wait().await;
                return Became::Unhealthy;
            }
        }
    }

    /// Ends a launch: asks, waits, kills.
    async fn end(&self, running: &Running, exit: &mut Exit) {
        self.shared.enter(State::Starting);
        let grace = self.shared.plugin.manifest.state().spec().lifecycle.graceful_shutdown_timeout;
        running.client.shutdown(grace).await;
        if tokio::time::timeout(grace, exit.wait()).await.is_err() {
            process::kill(&self.shared, running.launch).await;
            exit.wait().await;
        }
    }

    fn stopped(&self, why: StopReason) {
        self.shared.enter(State::Stopped(why));
        self.shared.record.note(record::STOPPED, json!({ "why": why }));
    }
}
