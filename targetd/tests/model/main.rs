//! targetd on the model kernel: every rule of safety by its name, and properties that hold from
//! any state to any other.

mod addresses;
mod catalog;
mod concurrency;
mod fc;
mod golden;
mod growing;
mod moving;
mod opening;
mod pools;
mod properties;
mod qos;
mod reading;
mod redundancy;
mod rules;
mod snapshots;
mod sources;
mod volumes;
mod wanted;
mod watching;
mod world;
