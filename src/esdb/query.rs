//! What a read asks for, taken from its message and checked.

use super::filter::Filter;
use super::messages::streams::{
    AllOption, AllOptions, Count, FilterOption, ReadDirection, ReadOptions, ReadReq, RevisionOption, Source,
    StreamOptions, UuidSpelling,
};
use super::refusal::{Refusal, invalid};

/// The prefix of the stream that holds a link to each event of a category.
const CATEGORY: &str = "$ce-";

/// A read or a subscription.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) source: Asked,
    pub(super) from: From,
    pub(super) extent: Extent,
    pub(super) style: Style,
}

/// Of what.
#[derive(Debug)]
pub(super) enum Asked {
    /// The whole log.
    All(Option<Filter>),
    /// The links to the events of a category.
    Category(String),
    /// One stream, by any name.
    Stream(String),
}

/// From where on. The number is a revision in a stream, and a position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Start,
    At(u64),
    End,
}

/// How much, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Forwards(u64),
    Backwards(u64),
    /// Forwards without end.
    Subscription,
}

/// How the answers are spelt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) resolve_links: bool,
    pub(super) structured_uuids: bool,
    /// Whether the client knows messages that tell the first and last revision.
    pub(super) tells_ends: bool,
}

impl Query {
    pub(super) fn read(request: ReadReq) -> Result<Self, Refusal> {
        let options = request.options.ok_or_else(|| invalid("A read has no options; give them."))?;
        let extent = extent(&options)?;
        let style = Style {
            resolve_links: options.resolve_links,
            structured_uuids: matches!(
                options.uuid_option.and_then(|option| option.spelling),
                Some(UuidSpelling::Structured(_))
            ),
            tells_ends: options.control_option.is_some_and(|option| option.compatibility >= 1),
        };
        let (source, from) = match options.source {
            Some(Source::All(all)) => (Asked::All(filter(options.filter)?), position(all)?),
            Some(Source::Stream(stream)) => named(stream)?,
            None => return Err(invalid("A read is of a stream or of $all; name one.")),
        };
        Ok(Self { source, from, extent, style })
    }
}

fn extent(options: &ReadOptions) -> Result<Extent, Refusal> {
    let direction = ReadDirection::try_from(options.read_direction);
    match (direction, options.count) {
        (Ok(ReadDirection::Forwards), Some(Count::AtMost(count))) => Ok(Extent::Forwards(count)),
        (Ok(ReadDirection::Backwards), Some(Count::AtMost(count))) => Ok(Extent::Backwards(count)),
        (Ok(ReadDirection::Forwards), Some(Count::Subscription(_))) => Ok(Extent::Subscription),
        (Ok(ReadDirection::Backwards), Some(Count::Subscription(_))) => {
            Err(invalid("A subscription goes forwards only."))
        }
        (_, None) => Err(invalid("A read has a count, or is a subscription; say which.")),
        (Err(_), _) => Err(invalid("A read goes forwards (0) or backwards (1).")),
    }
}

fn filter(option: Option<FilterOption>) -> Result<Option<Filter>, Refusal> {
    match option {
        Some(FilterOption::Filter(options)) => Filter::read(options).map(Some),
        Some(FilterOption::NoFilter(_)) | None => Ok(None),
    }
}

fn position(all: AllOptions) -> Result<From, Refusal> {
    match all.position {
        Some(AllOption::Start(_)) => Ok(From::Start),
        Some(AllOption::End(_)) => Ok(From::End),
        Some(AllOption::Position(position)) => Ok(From::At(position.commit_position)),
        None => Err(invalid("A read of $all starts at a position, the start or the end; say which.")),
    }
}

fn named(stream: StreamOptions) -> Result<(Asked, From), Refusal> {
    let name = stream.stream_identifier.map(|identifier| identifier.stream_name).unwrap_or_default();
    let name = String::from_utf8(name.to_vec()).map_err(|_| invalid("The name of a stream is UTF-8."))?;
    if name.is_empty() {
        return Err(invalid("The stream has no name; give one, such as lease-<uuid>."));
    }
    let from = match stream.revision {
        Some(RevisionOption::Start(_)) => From::Start,
        Some(RevisionOption::End(_)) => From::End,
        Some(RevisionOption::Revision(revision)) => From::At(revision),
        None => return Err(invalid("A read of a stream starts at a revision, the start or the end; say which.")),
    };
    Ok(match name.strip_prefix(CATEGORY) {
        Some(category) => (Asked::Category(category.to_owned()), from),
        None => (Asked::Stream(name), from),
    })
}

/// The name of the stream that holds the links of a category.
pub(super) fn category_stream(category: &str) -> String {
    format!("{CATEGORY}{category}")
}
