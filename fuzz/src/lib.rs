//! What each fuzz target checks. The targets themselves only hand their input over.

pub mod body;
pub mod engine;
pub mod exchange;
pub mod framing;
pub mod head;
pub mod pieces;

use evenly::http1::HeadLimits;

/// The limits of a default configuration.
pub const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, fields: 100 };
