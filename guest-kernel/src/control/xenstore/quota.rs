//! What one guest may use of the store: the numbers that Xen's server has where nobody sets others.

/// Nodes that a domain owns.
pub const NODES: usize = 1000;
/// Bytes of a node: its value, the names of its children and its permissions.
pub const NODE_BYTES: usize = 2048;
/// Permissions of a node.
pub const PERMISSIONS: usize = 5;
/// Watches.
pub const WATCHES: usize = 128;
/// Transactions under way.
pub const TRANSACTIONS: usize = 10;
/// Nodes that a transaction has looked at or changed.
pub const TRANSACTION_NODES: usize = 1024;
/// Answers that wait for the guest to read; while there are so many, nothing more is taken from it.
pub const OUTSTANDING: usize = 20;
/// Bytes of everything: nodes, watches, transactions, and what waits for the guest to read.
pub const MEMORY: usize = 2560 * 1024;
