//! The price list: what filters leave of it, and in which portions it comes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Talk;

/// Types and prices of a page, and the token of the next.
fn read(body: &str) -> (Vec<(String, String)>, Option<String>) {
    let answer: Value = serde_json::from_str(body).unwrap();
    let products = answer["PriceList"].as_array().unwrap().iter();
    let products = products.map(|text| {
        let product: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        let dimension = &product["terms"]["OnDemand"]["simulated.term"]["priceDimensions"];
        let price = &dimension["simulated.term.hours"]["pricePerUnit"]["USD"];
        let name = &product["product"]["attributes"]["instanceType"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(name), text(price))
    });
    let next = answer["NextToken"].as_str().map(str::to_owned);
    (products.collect(), next)
}

fn asking(field: &str, value: &str) -> Value {
    json!({
        "ServiceCode": "AmazonEC2",
        "Filters": [{ "Type": "TERM_MATCH", "Field": field, "Value": value }],
    })
}

#[tokio::test(start_paused = true)]
async fn filters_leave_what_meets_all_of_them() {
    let talk = Talk::begin();
    let of =
        async |field: &str, value: &str| read(&talk.prices(&asking(field, value)).await.body).0;
    let one = of("instanceType", "c5.xlarge").await;
    assert_eq!(one, [("c5.xlarge".to_owned(), "0.170".to_owned())]);
    assert!(
        of("tenancy", "Dedicated")
            .await
            .iter()
            .all(|(name, _price)| name.contains("metal"))
    );
    assert!(of("tenancy", "Shared").await.len() > 20);
    for (field, value) in [("regionCode", "eu-west-1"), ("operatingSystem", "Windows")] {
        assert_eq!(of(field, value).await, [], "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_comes_in_pages_that_leave_nothing_out() {
    let talk = Talk::begin();
    let mut request = json!({ "ServiceCode": "AmazonEC2", "MaxResults": 7 });
    let mut names = BTreeSet::new();
    let mut pages = 0;
    loop {
        let (products, next) = read(&talk.prices(&request).await.body);
        assert!(products.len() <= 7);
        names.extend(products.into_iter().map(|(name, _price)| name));
        pages += 1;
        let Some(next) = next else { break };
        request["NextToken"] = json!(next);
    }
    let sold = talk.world.ec2.markets().sold().prices.on_demand.len();
    let offered = talk.world.ec2.markets().sold().types.len();
    assert_eq!(names.len(), sold.min(offered));
    assert!(pages > 2, "{pages} pages");
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_request_is_refused() {
    let talk = Talk::begin();
    let mut unknown = asking("tenancy", "Shared");
    unknown["Filters"][0]["Type"] = json!("CONTAINS");
    for request in [
        json!({}),
        json!({ "ServiceCode": "AmazonEC2", "MaxResults": 101 }),
        json!({ "ServiceCode": "AmazonEC2", "NextToken": "!" }),
        unknown,
    ] {
        let answer = talk.prices(&request).await;
        assert_eq!(answer.status, 400, "{request}");
        assert!(
            answer.body.contains("InvalidParameterException"),
            "{}",
            answer.body
        );
    }
}
