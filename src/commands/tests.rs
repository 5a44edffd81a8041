//! Tests of the commands as a whole, from within: what no single one of them can show.

mod model;
