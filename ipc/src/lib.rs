//! How an application speaks to its Hypergolix node.
