//! The macros for awaited deliveries, with the syntax of `log`'s own.

/// Logs at INFO through the logger that [`init`](crate::init) installed, and gives a [`Delivered`](crate::Delivered) to
/// await.
///
/// The syntax is `log::info!`'s: an optional `target:`, optional key-values before a `;`, then the message. The record
/// is queued before the macro's value is there. It always resolves: with
/// [`DeliveryErrorKind::NotInitialised`](crate::DeliveryErrorKind::NotInitialised) where there is no global logger.
///
/// ```no_run
/// # async fn example() {
/// let order = "o_7";
/// if let Err(error) = kafka_log::ainfo!(order_id = order, total:? = [1, 2]; "order {} placed", order).await {
///     eprintln!("{error}");
/// }
/// # }
/// ```
#[macro_export]
macro_rules! ainfo {
    ($($arg:tt)+) => { $crate::__awaited!(Info, $($arg)+) };
}

/// As [`ainfo!`](crate::ainfo), at TRACE.
#[macro_export]
macro_rules! atrace {
    ($($arg:tt)+) => { $crate::__awaited!(Trace, $($arg)+) };
}

/// As [`ainfo!`](crate::ainfo), at DEBUG.
#[macro_export]
macro_rules! adebug {
    ($($arg:tt)+) => { $crate::__awaited!(Debug, $($arg)+) };
}

/// As [`ainfo!`](crate::ainfo), at WARN.
#[macro_export]
macro_rules! awarning {
    ($($arg:tt)+) => { $crate::__awaited!(Warning, $($arg)+) };
}

/// As [`ainfo!`](crate::ainfo), at ERROR.
#[macro_export]
macro_rules! aerror {
    ($($arg:tt)+) => { $crate::__awaited!(Error, $($arg)+) };
}

/// As [`ainfo!`](crate::ainfo), at ERROR, and `"critical"` in the payload.
#[macro_export]
macro_rules! acritical {
    ($($arg:tt)+) => { $crate::__awaited!(Critical, $($arg)+) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __awaited {
    ($severity:ident, target: $target:expr, $($key:tt $(:$capture:tt)? $(= $value:expr)?),+; $($arg:tt)+) => {
        $crate::__private::awaited(
            $crate::__private::Severity::$severity,
            $target,
            ::core::format_args!($($arg)+),
            &[$(($crate::__key!($key), $crate::__value!($key $(:$capture)? = $($value)?))),+],
        )
    };
    ($severity:ident, target: $target:expr, $($arg:tt)+) => {
        $crate::__private::awaited(
            $crate::__private::Severity::$severity,
            $target,
            ::core::format_args!($($arg)+),
            &$crate::fields! {},
        )
    };
    ($severity:ident, $($key:tt $(:$capture:tt)? $(= $value:expr)?),+; $($arg:tt)+) => {
        $crate::__awaited!(
            $severity,
            target: ::core::module_path!(),
            $($key $(:$capture)? $(= $value)?),+; $($arg)+
        )
    };
    ($severity:ident, $($arg:tt)+) => {
        $crate::__awaited!($severity, target: ::core::module_path!(), $($arg)+)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __key {
    ($key:ident) => {
        ::core::stringify!($key)
    };
    ($key:expr) => {
        $key
    };
}

/// A key alone is its own value, as in `log`.
#[doc(hidden)]
#[macro_export]
macro_rules! __value {
    ($key:tt $(:$capture:tt)? =) => {
        $crate::__field!($($capture)?, $key)
    };
    ($key:tt $(:$capture:tt)? = $value:expr) => {
        $crate::__field!($($capture)?, $value)
    };
}
