//! The events of a lease as a story: each in a plain sentence, and what comes next. Pure.

use chrono::{DateTime, Utc};
use lease_events::failure::Fault;
use lease_events::lease::LeaseState;
use lease_events::lease::event::{
    Candidate, LeaseCommandExecuted, LeaseEvent, LeaseReleaseRequested, LeaseReleased, LeaseRequested, Receipt,
};
use lease_events::lease::vocabulary::{
    CleanupStatus, ExecutionOutcome, LeaseStatus, NextActionKind, Policy, Reason, ReceiptState, ReleaseStatus,
    Teardown, Verdict,
};

use crate::cli::duration::{absolute, length, relative};

/// What an event says, in a sentence without its end.
#[must_use]
pub(super) fn sentence(event: &LeaseEvent) -> String {
    match event {
        LeaseEvent::Requested(requested) => asked(requested),
        LeaseEvent::ReuseClaimed(claimed) => format!(
            "lease {} takes over what it left, {}, under token {}",
            claimed.by_lease_id, claimed.provider_lease_id, claimed.next_fencing_token
        ),
        LeaseEvent::ReuseDecided(decided) => decided_on(&decided.candidates, decided.chosen.is_some()),
        LeaseEvent::ProviderAcquired(acquired) => format!(
            "the provider gave {}; it is held under token {}{}",
            thing(acquired.provider_lease_id.as_deref()),
            acquired.fencing_token,
            until(acquired.expires_at)
        ),
        LeaseEvent::Resumed(resumed) => {
            let whose =
                resumed.from_lease_id.map_or_else(String::new, |from| format!(", which lease {from} had left,"));
            format!(
                "the provider resumed {}{whose} and it is held under token {}{}",
                resumed.provider_lease_id,
                resumed.fencing_token,
                until(resumed.expires_at)
            )
        }
        LeaseEvent::AcquireFailed(failed) => {
            format!("nothing was acquired, because {}{}", because(failed.reason), said(failed.fault.as_ref()))
        }
        LeaseEvent::EffectUnknown(unknown) => format!(
            "whether the {} happened is not known: {}; it is settled by {}, at {}",
            unknown.effect,
            unknown.fault,
            unknown.settle_by,
            absolute(unknown.settle_at)
        ),
        LeaseEvent::Realized(realized) => format!("the workspace was made ready; commands start in {}", realized.cwd),
        LeaseEvent::Renewed(renewed) => format!("it was renewed, and lasts until {}", absolute(renewed.expires_at)),
        LeaseEvent::CommandStarted(started) => {
            format!("command {}{} was started", started.command, arguments(started.argument_count))
        }
        LeaseEvent::CommandExecuted(executed) => ran(executed),
        LeaseEvent::ReleaseRequested(requested) => wanted(requested),
        LeaseEvent::Released(released) => over(released),
        LeaseEvent::CleanupFailed(failed) => {
            let next = failed.next_try_at.map_or_else(
                || "an operator must look".to_owned(),
                |at| format!("it is tried again at {}", absolute(at)),
            );
            let charged = if failed.charged { "" } else { ", not counted because the provider was never reached" };
            format!("cleanup attempt {} failed{charged}: {}; {next}", failed.attempt, failed.fault)
        }
        LeaseEvent::CleanupSucceeded(cleaned) => format!("cleanup is done: {}", left(Some(&cleaned.receipt))),
        LeaseEvent::CleanupEscalated(escalated) => format!(
            "an operator must look: after {} attempts the cleanup still fails ({})",
            escalated.attempts, escalated.fault
        ),
        LeaseEvent::CleanupWaived(waived) => format!("an operator gave the cleanup up: \"{}\"", waived.note),
        LeaseEvent::Destroyed(destroyed) => format!(
            "it was torn down, because {}: {}; the lease ended as {}",
            because(destroyed.reason),
            left(Some(&destroyed.receipt)),
            destroyed.status
        ),
    }
}

/// What comes next, in a sentence.
#[must_use]
pub(super) fn next(state: &LeaseState, now: DateTime<Utc>) -> String {
    let Some(next) = &state.next_action else {
        return match state.status {
            LeaseStatus::Active => "Next: nothing is due; its holder goes on, or releases it.".to_owned(),
            status => format!("Next: nothing; the lease is {status}, and nothing of it is owed."),
        };
    };
    let what = match next.action {
        NextActionKind::SettleAcquire => "the acquire is settled",
        NextActionKind::Expire => "the lease expires",
        NextActionKind::FinishRelease => "the release is finished",
        NextActionKind::RetryCleanup => "the cleanup is tried again",
        NextActionKind::AwaitReuse => "what it left waits for another run",
        NextActionKind::AwaitOperator => "what it left waits for an operator",
    };
    let when = next.at.map_or_else(String::new, |at| format!(" at {} ({})", absolute(at), relative(at, now)));
    format!("Next: {what}{when}, because {}.", next.because)
}

fn asked(requested: &LeaseRequested) -> String {
    let place = if requested.provider == requested.driver {
        requested.driver.clone()
    } else {
        format!("{}, {}", requested.driver, requested.provider)
    };
    let run = requested.run_id.map_or_else(|| "ad hoc".to_owned(), |run| format!("by run {run}"));
    let then = match requested.policy {
        Policy::Ephemeral => "it is removed at the end",
        Policy::ReuseByEnvironment => "it is kept at the end, for the next run here",
        Policy::ReuseByExecutionWorkspace => "it is kept at the end, for the next run of its workspace",
        Policy::RetainOnFailure => "it is kept at the end only where it failed",
    };
    let until = requested.requested_expires_at.map_or_else(String::new, |at| format!(", until {}", absolute(at)));
    format!("environment \"{}\" ({place}) was asked for {run}{until}; {then}", requested.environment_name)
}

fn decided_on(candidates: &[Candidate], is_taken: bool) -> String {
    if candidates.is_empty() {
        return "nothing was there to be reused; a fresh one is acquired".to_owned();
    }
    let verdicts: Vec<String> = candidates.iter().map(verdict).collect();
    let then = if is_taken { "it is resumed" } else { "a fresh one is acquired, if any" };
    format!("of what others left, {}; {then}", verdicts.join("; "))
}

/// One candidate and what was decided of it, in words.
#[must_use]
pub(super) fn verdict(candidate: &Candidate) -> String {
    let detail = candidate.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
    format!("that of lease {} {}{detail}", candidate.lease_id, verdict_words(candidate.verdict))
}

/// A verdict in words.
#[must_use]
pub(super) fn verdict_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Taken => "was taken",
        Verdict::LostClaim => "went to another acquire, which was faster",
        Verdict::NotAvailable => "was not available any more",
        Verdict::FingerprintDiffers => "does not match",
        Verdict::Gone => "was gone at the provider",
        Verdict::IdentityChanged => "came back as another sandbox, and was not trusted",
        Verdict::ResumeFailed => "could not be resumed, and is kept",
    }
}

fn arguments(count: u32) -> String {
    match count {
        0 => String::new(),
        1 => " with 1 argument".to_owned(),
        count => format!(" with {count} arguments"),
    }
}

fn ran(executed: &LeaseCommandExecuted) -> String {
    let arguments = arguments(executed.argument_count);
    let end = match executed.outcome {
        ExecutionOutcome::NotDone => format!("could not be started{}", said(executed.fault.as_ref())),
        ExecutionOutcome::Unknown => format!("was run, or not: nobody knows{}", said(executed.fault.as_ref())),
        ExecutionOutcome::Done => format!("ran for {} and {}", length(executed.duration_ms), ended(executed)),
    };
    format!("command {}{arguments} {end}", executed.command)
}

fn ended(executed: &LeaseCommandExecuted) -> String {
    let limit = executed.limit.as_ref().map(|limit| format!(" at its {limit} limit"));
    match (executed.timed_out, &executed.signal, executed.exit_code) {
        (true, _, _) => "was ended because its time ran out".to_owned(),
        (false, Some(signal), _) => format!("was ended by {signal}{}", limit.unwrap_or_default()),
        (false, None, Some(code)) => format!("exited with {code}{}", limit.unwrap_or_default()),
        (false, None, None) => format!("ended{}", limit.unwrap_or_default()),
    }
}

fn wanted(requested: &LeaseReleaseRequested) -> String {
    let status = match requested.status {
        ReleaseStatus::Released => "released",
        ReleaseStatus::Expired => "expired",
        ReleaseStatus::Failed => "failed",
    };
    let note = requested.note.as_ref().map_or_else(String::new, |note| format!(" and says \"{note}\""));
    let what = match requested.teardown {
        Teardown::ByPolicy => format!("it is to end as {status}"),
        Teardown::Destroy => format!("it is to end as {status}, and what it holds is to be torn down"),
    };
    format!("{what}, because {}{note}", because(requested.reason))
}

fn over(released: &LeaseReleased) -> String {
    let failure = released.failure_reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    let left = match (&released.receipt, released.cleanup_status) {
        (Some(receipt), _) => left(Some(receipt)),
        (None, None) => "nothing was held".to_owned(),
        (None, Some(CleanupStatus::Success)) => left(None),
        (None, Some(CleanupStatus::Pending)) => "what it held is still at the provider".to_owned(),
        (None, Some(CleanupStatus::Failed)) => "what it held may still be at the provider, and is owed".to_owned(),
    };
    format!("it is over, as {}{failure}, because {}; {left}", released.status, because(released.reason))
}

fn left(receipt: Option<&Receipt>) -> String {
    let Some(receipt) = receipt else { return "nothing is left".to_owned() };
    let what = thing(receipt.provider_lease_id.as_deref());
    match receipt.state {
        ReceiptState::Kept => format!("{what} is kept"),
        ReceiptState::Destroyed => format!("{what} is removed"),
        ReceiptState::Gone => format!("{what} was not there any more"),
    }
}

fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::HolderReleased => "its holder gave it back",
        Reason::RunEnded => "its run ended",
        Reason::RunLost => "its run failed or was lost",
        Reason::OperatorReleased => "an operator ended it",
        Reason::DeadlineReached => "its time had come",
        Reason::AcquireCancelled => "it was released before the acquire was done",
        Reason::ProviderRefused => "the provider refused",
        Reason::ProviderFailed => "the provider failed",
        Reason::ResumeFailed => "what was to be reused could not be resumed",
        Reason::TakeOverFailed => "another lease took it over but could not resume it",
        Reason::RecoverySettled => "recovery found it without an outcome",
    }
}

fn thing(provider_lease_id: Option<&str>) -> &str {
    provider_lease_id.unwrap_or("what it asked for")
}

fn until(expires_at: Option<DateTime<Utc>>) -> String {
    expires_at.map_or_else(String::new, |at| format!(", until {}", absolute(at)))
}

fn said(fault: Option<&Fault>) -> String {
    fault.map_or_else(String::new, |fault| format!(": {fault}"))
}
