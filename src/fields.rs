//! The macro for fields of mixed types.

/// Fields for the direct methods: none, or of mixed types.
///
/// Each is `name = value`, with a value of any type that [`log::kv::ToValue`] takes, or captured as in `log`'s own
/// macros: `name:? = value` by `Debug`, `name:% = value` by `Display`, `name:err = value` as an error,
/// `name:serde = value` as a structured value.
///
/// ```
/// # use log::kv::Source;
/// let (user, attempts) = ("u_19", 3);
/// assert_eq!(kafka_log::fields! { user_id = user, attempts = attempts, pause:? = [1, 2] }.count(), 3);
/// assert_eq!(kafka_log::fields! {}.count(), 0);
/// ```
#[macro_export]
macro_rules! fields {
    () => {{
        let none: [(&str, $crate::__private::Value<'_>); 0] = [];
        none
    }};
    ($($name:ident $(:$capture:tt)? = $value:expr),+ $(,)?) => {
        [$((::core::stringify!($name), $crate::__field!($($capture)?, $value))),+]
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __field {
    (, $value:expr) => {
        $crate::__private::ToValue::to_value(&$value)
    };
    (?, $value:expr) => {
        $crate::__private::Value::from_debug(&$value)
    };
    (debug, $value:expr) => {
        $crate::__private::Value::from_debug(&$value)
    };
    (%, $value:expr) => {
        $crate::__private::Value::from_display(&$value)
    };
    (display, $value:expr) => {
        $crate::__private::Value::from_display(&$value)
    };
    (err, $value:expr) => {
        $crate::__private::Value::from_dyn_error(&$value)
    };
    (serde, $value:expr) => {
        $crate::__private::Value::from_serde(&$value)
    };
}
