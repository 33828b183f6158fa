//! The attribute `#[test]` of the integration tests. It needs a crate of its own, because Rust requires that
//! for attributes.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// A test, as Rust's own attribute of this name makes it, whose body runs within `diskwright_testing::left_out::judged`.
#[proc_macro_attribute]
pub fn test(_arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut tokens: Vec<TokenTree> = item.into_iter().collect();
    let after_fn = tokens.iter().skip_while(|token| token.to_string() != "fn").nth(1);
    let name = after_fn.map(ToString::to_string);
    let (Some(name), Some(TokenTree::Group(body))) = (name, tokens.pop()) else {
        return stream("::core::compile_error!(\"#[test] is for functions\");");
    };
    let mut arguments = stream(&format!("::core::concat!(::core::module_path!(), \"::{name}\"), ||"));
    arguments.extend([TokenTree::Group(body)]);
    let mut call = stream("::diskwright_testing::left_out::judged");
    call.extend([TokenTree::Group(Group::new(Delimiter::Parenthesis, arguments))]);
    tokens.push(TokenTree::Group(Group::new(Delimiter::Brace, call)));
    let mut test = stream("#[::core::prelude::v1::test]");
    test.extend(tokens);
    test
}

/// The tokens of a piece of code of this file, which is right.
fn stream(code: &str) -> TokenStream {
    code.parse().unwrap_or_default()
}
