//! A step's work on several processes.
//!
//! Process 0 leads: it reads the data, decides what each process computes, and keeps log, state and models. The others
//! follow ([`follow`]): they hold the same weights, or a share of them, and compute what they are told. Every process comes
//! to the same verdict on a step before its weights change, so a failure anywhere is the same error everywhere.

mod deal;
mod exchange;
mod follow;
mod gather;
mod lead;
mod orders;
mod parts;
mod shares;

pub(crate) use self::{
    exchange::{Batch, Exchange, Gradient, Sum, gradient},
    follow::{follow, settle as settle_with_leader},
    gather::{Gathering, nothing},
    lead::{TRAIN, What, begin, compute, order, write_pieces},
    orders::{Begin, Flaw, Order, Outcome, unpacked},
    shares::Shares,
};
