//! The store on real files.

mod contract;
mod damage;
mod fixture;
