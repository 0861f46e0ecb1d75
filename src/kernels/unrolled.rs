//! Loops written out, because the compiler keeps an array in registers only if it never sees a variable index.

/// Says `$row!` for each row up to the const parameter `$rows`. Arrays by row have 16 entries.
macro_rules! each_row {
    ($rows:ident, $row:ident) => {
        each_row!(@ $rows, $row, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $rows:ident, $row:ident, $($i:literal)*) => {
        $(if $i < $rows { $row!($i); })*
    };
}

/// Says `$do!` with the row for each vector up to the const parameter `$vectors`.
macro_rules! each_vector {
    ($vectors:ident, $do:ident $i:tt) => {
        if 0 < $vectors { $do!($i 0); }
        if 1 < $vectors { $do!($i 1); }
        if 2 < $vectors { $do!($i 2); }
        if 3 < $vectors { $do!($i 3); }
    };
}

pub(super) use {each_row, each_vector};
