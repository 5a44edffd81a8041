//! The lists of the reading port, as statements: what is asked for by whom. Text only; nothing here touches a database.

use chrono::{DateTime, Utc};
use lease_events::id::LeaseId;
use lease_events::record::Position;
use lease_events::secret::SecretStatus;
use uuid::Uuid;

use super::decode;
use super::dialect::Database;
use crate::current_leases::UNSETTLED;
use crate::projection::Value;
use crate::read_model::{
    AliveFilter, DueFilter, EnvironmentFilter, LeaseFilter, ROWS_MAX, ReusableFilter, SecretFilter,
};
use crate::reuse_claims::OPEN;
use crate::runs::ALIVE;

/// A list's statement.
pub(super) struct List {
    pub(super) text: String,
    /// What its `$1`, `$2`… are.
    pub(super) values: Vec<Value>,
}

/// The list of leases that `filter` asks for.
pub(super) fn leases(database: Database, filter: &LeaseFilter) -> List {
    let mut query = Conditions::new("SELECT * FROM current_leases");
    let open = filter.open_only || all_open(filter);
    // Without statistics SQLite takes every index of one equal column for equally narrow. Which one is, is known
    // here: a run's, what is due, what needs attention, what is unsettled, an environment's, a company's.
    let by_present =
        filter.run_id.is_some() || filter.due_by.is_some() || filter.needs_attention || filter.running_commands;
    let by_environment = !by_present && filter.environment_id.is_some();
    query.equal("run_id", filter.run_id);
    let beside = |wanted: bool, column: &str| if wanted { database.beside_index(column) } else { column.to_owned() };
    query.equal(&beside(by_present, "environment_id"), filter.environment_id);
    let other_than_company = by_present || by_environment || open || filter.unsettled;
    query.equal(&beside(other_than_company, "company_id"), filter.company_id);
    query.below("created_position", filter.before);
    query.holds(open, "is_open = 1");
    query.holds(filter.unsettled, UNSETTLED);
    query.holds(filter.needs_attention, "needs_attention = 1");
    query.holds(filter.running_commands, "running_commands > 0");
    query.until("next_action_at", filter.due_by);
    if !filter.statuses.is_empty() {
        query.among("status", filter.statuses.iter().map(|status| Value::from(status.as_str())));
    }
    let order = if filter.due_by.is_some() { "next_action_at, lease_id" } else { "created_position DESC" };
    query.end(order, filter.limit)
}

/// Whether only open leases can match, so that the index of what is unsettled serves.
fn all_open(filter: &LeaseFilter) -> bool {
    !filter.statuses.is_empty() && filter.statuses.iter().all(|status| status.is_open())
}

/// The leases that `filter` asks for, as far as a sweep must know them.
pub(super) fn due(filter: &DueFilter) -> List {
    let mut query = Conditions::new(&format!("SELECT {} FROM current_leases", decode::DUE.join(", ")));
    query.equal("next_action", Some(filter.action));
    query.holds(true, "next_action_at IS NOT NULL");
    query.until("next_action_at", filter.by);
    query.behind("(next_action_at, lease_id)", filter.after.map(|(at, lease)| (at, lease.0)));
    query.end("next_action_at, lease_id", filter.limit)
}

/// The list of reusable leases that `filter` asks for.
pub(super) fn reusable(filter: &ReusableFilter) -> List {
    let mut query = Conditions::new("SELECT * FROM reusable_leases");
    query.equal("environment_id", filter.environment_id);
    query.equal("company_id", filter.company_id);
    query.equal("provider", filter.provider.as_ref());
    query.end("released_at DESC, lease_id", filter.limit)
}

/// The list of environments that `filter` asks for.
pub(super) fn environments(filter: &EnvironmentFilter) -> List {
    let mut query = Conditions::new("SELECT * FROM environments");
    query.equal("company_id", filter.company_id);
    query.equal("name", filter.name.as_ref());
    query.equal("driver", filter.driver.as_ref());
    query.equal("status", filter.status.map(lease_events::environment::EnvironmentStatus::as_str));
    query.below("created_position", filter.before);
    query.end("created_position DESC", filter.limit)
}

/// The list of secrets that `filter` asks for.
pub(super) fn secrets(filter: &SecretFilter) -> List {
    let mut query = Conditions::new("SELECT * FROM secrets");
    query.equal("company_id", filter.company_id);
    query.equal("name", filter.name.as_ref());
    query.equal("status", filter.status.map(SecretStatus::as_str));
    query.below("created_position", filter.before);
    query.end("created_position DESC", filter.limit)
}

/// The runs that `filter` asks for.
pub(super) fn alive_runs(filter: &AliveFilter) -> List {
    let mut query = Conditions::new("SELECT * FROM runs");
    query.holds(true, ALIVE);
    query.until("alive_until", filter.until);
    query.behind("(alive_until, run_id)", filter.after.map(|(until, run)| (until, run.0)));
    query.end("alive_until, run_id", filter.limit)
}

/// The open claims behind `after`.
pub(super) fn open_claims(after: Option<(DateTime<Utc>, LeaseId)>, limit: usize) -> List {
    let mut query = Conditions::new("SELECT * FROM reuse_claims");
    query.holds(true, OPEN);
    query.behind("(claimed_at, lease_id)", after.map(|(at, lease)| (at, lease.0)));
    query.end("claimed_at, lease_id", limit)
}

/// A list's statement in the making: conditions that are all to hold.
struct Conditions {
    list: List,
    any: bool,
}

impl Conditions {
    fn new(select: &str) -> Self {
        Self { list: List { text: select.to_owned(), values: Vec::new() }, any: false }
    }

    fn and(&mut self, condition: &str) {
        let word = if std::mem::replace(&mut self.any, true) { " AND " } else { " WHERE " };
        self.list.text.push_str(word);
        self.list.text.push_str(condition);
    }

    /// The place of a value.
    fn bind(&mut self, value: Value) -> String {
        self.list.values.push(value);
        format!("${}", self.list.values.len())
    }

    fn equal<T: ToString>(&mut self, column: &str, value: Option<T>) {
        if let Some(value) = value {
            let value = self.bind(Value::Text(value.to_string().into()));
            self.and(&format!("{column} = {value}"));
        }
    }

    fn among(&mut self, column: &str, values: impl Iterator<Item = Value>) {
        let places: Vec<String> = values.map(|value| self.bind(value)).collect();
        self.and(&format!("{column} IN ({})", places.join(", ")));
    }

    fn below(&mut self, column: &str, position: Option<Position>) {
        if let Some(position) = position {
            let position = self.bind(Value::from(position.0));
            self.and(&format!("{column} < {position}"));
        }
    }

    fn until(&mut self, column: &str, at: Option<DateTime<Utc>>) {
        if at.is_some() {
            let at = self.bind(Value::time(at));
            self.and(&format!("{column} <= {at}"));
        }
    }

    /// The rows behind a cursor of a time and an id.
    fn behind(&mut self, columns: &str, cursor: Option<(DateTime<Utc>, Uuid)>) {
        if let Some((at, id)) = cursor {
            let (at, id) = (self.bind(Value::time(Some(at))), self.bind(Value::id(Some(id))));
            self.and(&format!("{columns} > ({at}, {id})"));
        }
    }

    fn holds(&mut self, wanted: bool, condition: &str) {
        if wanted {
            self.and(&format!("({condition})"));
        }
    }

    fn end(mut self, order: &str, limit: usize) -> List {
        let limit = self.bind(cut(limit));
        for part in [" ORDER BY ", order, " LIMIT ", &limit] {
            self.list.text.push_str(part);
        }
        self.list
    }
}

/// How many rows are answered at most.
pub(super) fn cut(limit: usize) -> Value {
    Value::from(limit.min(ROWS_MAX) as u64)
}
