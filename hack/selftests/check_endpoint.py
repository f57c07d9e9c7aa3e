"""The EC2 endpoint answers as EC2 does where moto alone does not."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

from botocore.exceptions import ClientError
from support import DISCOVERY, Check, aws, endpoint, eventually


class Endpoint(Check):
    def refused(self, code: str, call: Any, *arguments: Any, **more: Any) -> None:
        with self.assertRaises(ClientError) as caught:
            call(*arguments, **more)
        self.assertEqual(caught.exception.response["Error"]["Code"], code)

    def instance(self, answer: dict[str, Any]) -> dict[str, Any]:
        wanted = answer["Instances"][0]["InstanceIds"][:1]
        return dict(aws("ec2").describe_instances(InstanceIds=wanted)["Reservations"][0]["Instances"][0])

    def test_the_account_is_seeded(self) -> None:
        self.assertEqual(sorted(self.subnets), ["us-east-1a", "us-east-1b", "us-east-1c"])
        self.assertEqual(sorted(self.images), ["arm64", "x86_64"])
        profile = aws("iam").get_instance_profile(InstanceProfileName="tonnage-node")["InstanceProfile"]
        self.assertEqual(profile["Roles"][0]["RoleName"], "tonnage-node")

    def test_a_fleet_applies_its_launch_template(self) -> None:
        text = base64.b64encode(b"hello").decode()
        template = self.template(text)
        answer = self.fleet(template, ["c5.large"], "on-demand", 1)
        instance = self.instance(answer)
        self.assertEqual([group["GroupId"] for group in instance["SecurityGroups"]], [self.group])
        self.assertEqual(instance["MetadataOptions"]["HttpTokens"], "required")
        self.assertTrue(instance["IamInstanceProfile"]["Arn"].endswith("instance-profile/tonnage-node"))
        tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
        wanted = {"owner": "check", "aws:ec2launchtemplate:id": template, "aws:ec2launchtemplate:version": "1", "aws:ec2:fleet-id": answer["FleetId"]}
        self.assertEqual(tags, wanted)
        volume = aws("ec2").describe_volumes(VolumeIds=[instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]])["Volumes"][0]
        self.assertEqual((volume["Size"], volume["VolumeType"], volume["Encrypted"]), (100, "gp3", True))
        self.assertEqual({tag["Key"]: tag["Value"] for tag in volume["Tags"]}, {"from": "template", "owner": "check"})
        row = endpoint("GET", "instances")[0]
        self.assertEqual((row["id"], row["userData"], row["capacityType"]), (instance["InstanceId"], text, "on-demand"))
        self.assertEqual(row["privateDnsName"], instance["PrivateDnsName"])

    def test_the_cheapest_pool_wins(self) -> None:
        answer = self.fleet(self.template(), ["c5.4xlarge", "c5.xlarge", "c5.2xlarge"], "on-demand", 2)
        self.assertEqual([(group["InstanceType"], len(group["InstanceIds"])) for group in answer["Instances"]], [("c5.xlarge", 2)])
        history = aws("ec2").describe_spot_price_history(InstanceTypes=["c5.xlarge"], ProductDescriptions=["Linux/UNIX"])["SpotPriceHistory"]
        spot = {row["AvailabilityZone"]: Decimal(row["SpotPrice"]) for row in history if row["AvailabilityZone"] in self.subnets}
        answer = self.fleet(self.template(), ["c5.4xlarge", "c5.xlarge"], "spot", 1)
        zone = answer["Instances"][0]["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"]
        self.assertEqual(spot[zone], min(spot.values()))
        instance = self.instance(answer)
        self.assertEqual(instance["InstanceLifecycle"], "spot")
        self.assertTrue(instance["SpotInstanceRequestId"].startswith("sir-"))
        for price in spot.values():
            self.assertTrue(Decimal("0.051") <= price <= Decimal("0.0766"), price)

    def test_the_spot_market_can_be_held_still(self) -> None:
        def prices() -> set[Decimal]:
            history = aws("ec2").describe_spot_price_history(InstanceTypes=["c5.xlarge"], ProductDescriptions=["Linux/UNIX"])["SpotPriceHistory"]
            return {Decimal(row["SpotPrice"]) for row in history if row["AvailabilityZone"] in self.subnets}

        endpoint("POST", "prices", {"spotPerMille": 333})
        self.assertEqual(prices(), {Decimal("0.0566")})
        endpoint("POST", "prices", {"spotPerMille": None})
        self.assertGreater(len(prices()), 1)

    def test_a_client_token_launches_once(self) -> None:
        template = self.template()
        first = self.fleet(template, ["c5.large"], "spot", 2, ClientToken="token")
        again = self.fleet(template, ["c5.large"], "spot", 2, ClientToken="token")
        self.assertEqual((first["FleetId"], first["Instances"]), (again["FleetId"], again["Instances"]))
        self.assertEqual(len(endpoint("GET", "instances")), 2)
        self.refused("IdempotentParameterMismatch", self.fleet, template, ["c5.large"], "spot", 3, ClientToken="token")

    def test_capacity_runs_out_by_pool(self) -> None:
        pools = [{"type": "c5.large", "zone": "*", "capacityType": "*", "capacity": 0}, {"type": "c5.xlarge", "capacity": 1}]
        endpoint("POST", "capacity", {"pools": pools})
        answer = self.fleet(self.template(), ["c5.large", "c5.xlarge", "c5.2xlarge"], "on-demand", 3)
        self.assertEqual([(g["InstanceType"], len(g["InstanceIds"])) for g in answer["Instances"]], [("c5.xlarge", 1), ("c5.2xlarge", 2)])
        short = {(error["ErrorCode"], error["LaunchTemplateAndOverrides"]["Overrides"]["InstanceType"]) for error in answer["Errors"]}
        self.assertEqual(short, {("InsufficientInstanceCapacity", "c5.large"), ("InsufficientInstanceCapacity", "c5.xlarge")})
        endpoint("POST", "capacity", {"pools": [{"type": "*", "zone": "*", "capacityType": "*", "capacity": 2}]})
        partial = self.fleet(self.template(), ["c5.large"], "spot", 5)
        self.assertEqual(sum(len(group["InstanceIds"]) for group in partial["Instances"]), 2)
        self.assertTrue(partial["Errors"])

    def test_what_no_instance_can_be_made_of_is_an_error_of_the_fleet(self) -> None:
        cases = [
            ("InvalidParameterValue", self.template(), ["m6g.large"]),
            ("InvalidAMIID.NotFound", self.template(ImageId="ami-0123456789abcdef0"), ["c5.large"]),
            ("InvalidGroup.NotFound", self.template(NetworkInterfaces=[{"DeviceIndex": 0, "Groups": ["sg-0123456789abcdef0"]}]), ["c5.large"]),
            ("InvalidParameterValue", self.template(IamInstanceProfile={"Name": "nobody"}), ["c5.large"]),
            ("InvalidUserData.Malformed", self.template(base64.b64encode(b"x" * 16385).decode()), ["c5.large"]),
        ]
        for code, template, types in cases:
            answer = self.fleet(template, types, "on-demand", 1)
            self.assertEqual({error["ErrorCode"] for error in answer["Errors"]}, {code})
            self.assertEqual(answer.get("Instances", []), [])
        self.assertEqual(endpoint("GET", "instances"), [])
        self.refused("InvalidLaunchTemplateId.NotFound", self.fleet, "lt-0123456789abcdef0", ["c5.large"], "spot", 1)
        self.refused("DryRunOperation", self.fleet, self.template(), ["c5.large"], "spot", 1, DryRun=True)

    def free_addresses(self) -> list[int]:
        subnets = aws("ec2").describe_subnets(Filters=DISCOVERY)["Subnets"]
        return [subnet["AvailableIpAddressCount"] for subnet in subnets]

    def states(self) -> list[str]:
        return sorted(row["state"] for row in endpoint("GET", "instances"))

    def test_instances_come_and_go_by_time(self) -> None:
        free = self.free_addresses()
        answer = self.fleet(self.template(), ["c5.large"], "on-demand", 2)
        instance = self.instance(answer)
        self.assertEqual(instance["State"]["Name"], "pending")
        self.assertEqual(sum(free) - sum(self.free_addresses()), 2)
        eventually("both run", 5, lambda: self.states() == ["running", "running"])
        ids = answer["Instances"][0]["InstanceIds"]
        changes = aws("ec2").terminate_instances(InstanceIds=ids)["TerminatingInstances"]
        self.assertEqual({(c["PreviousState"]["Name"], c["CurrentState"]["Name"]) for c in changes}, {("running", "shutting-down")})
        self.assertEqual(self.free_addresses(), free)
        self.assertEqual(self.states(), ["shutting-down", "shutting-down"])
        eventually("both are terminated", 5, lambda: self.states() == ["terminated", "terminated"])
        again = self.instance(self.fleet(self.template(), ["c5.large"], "on-demand", 1))
        self.assertNotEqual(again["PrivateDnsName"], instance["PrivateDnsName"], "a name is not given out again at once")

    def test_an_instance_can_die_from_outside(self) -> None:
        instance = self.instance(self.fleet(self.template(), ["c5.large"], "spot", 1))
        endpoint("POST", "terminate", {"id": instance["InstanceId"]})
        eventually("it is terminated", 5, lambda: self.states() == ["terminated"])

    def test_filters_pages_and_missing_instances(self) -> None:
        answer = self.fleet(self.template(), ["c5.large"], "spot", 3)
        token = self.instance(answer)["ClientToken"]
        found = aws("ec2").describe_instances(Filters=[{"Name": "client-token", "Values": [token]}])["Reservations"]
        self.assertEqual(len(found), 1)
        spot = aws("ec2").describe_instances(Filters=[{"Name": "instance-lifecycle", "Values": ["spot"]}])["Reservations"]
        self.assertEqual(len(spot), 3)
        self.refused("InvalidParameterValue", aws("ec2").describe_instances, Filters=[{"Name": "no-such-filter", "Values": ["x"]}])
        tag = {"Resources": ["i-0123456789abcdef0"], "Tags": [{"Key": "a", "Value": "b"}]}
        self.refused("InvalidInstanceID.NotFound", aws("ec2").create_tags, **tag)
        pages = [page["InstanceTypes"] for page in aws("ec2").get_paginator("describe_instance_types").paginate()]
        self.assertGreater(len(pages), 10)
        self.assertEqual(max(len(page) for page in pages), 100)

    def test_prices(self) -> None:
        terms = {"instanceType": "c5.xlarge", "regionCode": "us-east-1", "operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA"}
        filters = [{"Type": "TERM_MATCH", "Field": key, "Value": value} for key, value in terms.items()]
        answer = aws("pricing").get_products(ServiceCode="AmazonEC2", Filters=filters)
        self.assertEqual(len(answer["PriceList"]), 1)
        term = next(iter(json.loads(answer["PriceList"][0])["terms"]["OnDemand"].values()))
        self.assertEqual(Decimal(next(iter(term["priceDimensions"].values()))["pricePerUnit"]["USD"]), Decimal("0.17"))
        pages = list(aws("pricing").get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters[1:3]))
        self.assertGreater(sum(len(page["PriceList"]) for page in pages), 300)
        self.assertGreater(len(pages), 3)
