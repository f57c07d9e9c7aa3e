# What Tonnage needs in an account for one EKS cluster: the controller's role, the machines' role with its instance
# profile, the queue of EC2's announcements, and the rules that fill it. Give the outputs to the chart and to your
# EC2NodeClasses. The same as docs/aws/roles.yaml and docs/aws/interruption-queue.yaml in CloudFormation.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
}

variable "cluster_name" {
  type        = string
  description = "Name of the EKS cluster; the chart's settings.clusterName."
  validation {
    condition     = can(regex("^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$", var.cluster_name))
    error_message = "Letters, digits, - and _, at most 100, as EKS has it."
  }
}

# Names hold the cluster's, and may be shorter than it: roles and rules have 64 characters, queues 80. Up to 44 characters of
# the cluster's name fit into all of them.

variable "short_name" {
  type        = string
  default     = null
  description = "What names of roles, queue and rules hold instead of the cluster's name; needed where that is longer than 44."
  validation {
    condition     = can(regex("^[0-9A-Za-z][0-9A-Za-z_-]{0,43}$", coalesce(var.short_name, "unset")))
    error_message = "Letters, digits, - and _, at most 44: the longest name is tonnage-NAME-maintenance."
  }
}

variable "namespace" {
  type        = string
  default     = "tonnage-system"
  description = "Namespace that the chart is installed in."
}

variable "service_account" {
  type        = string
  default     = "tonnage"
  description = "The controller's ServiceAccount."
}

data "aws_partition" "current" {}
data "aws_caller_identity" "current" {}
data "aws_region" "current" {}

locals {
  partition = data.aws_partition.current.partition
  account   = data.aws_caller_identity.current.account_id
  region    = data.aws_region.current.name
  name      = coalesce(var.short_name, var.cluster_name)
  # EC2 as it is called in the partition: in China ec2.amazonaws.com.cn.
  ec2 = "ec2.${data.aws_partition.current.dns_suffix}"
}

# The machines

resource "aws_iam_role" "node" {
  name = "tonnage-node-${local.name}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = local.ec2 }
      Action    = "sts:AssumeRole"
    }]
  })
  lifecycle {
    precondition {
      condition     = length(local.name) <= 44
      error_message = "The cluster's name is too long for names that hold it: give short_name, at most 44 characters."
    }
  }
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset([
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryPullOnly",
  ])
  role       = aws_iam_role.node.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value}"
}

resource "aws_iam_instance_profile" "node" {
  name = aws_iam_role.node.name
  role = aws_iam_role.node.name
}

resource "aws_eks_access_entry" "node" {
  cluster_name  = var.cluster_name
  principal_arn = aws_iam_role.node.arn
  type          = "EC2_LINUX"
}

# The controller

resource "aws_iam_role" "controller" {
  name = "tonnage-controller-${local.name}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
    }]
  })
}

resource "aws_iam_role_policy" "controller" {
  name = "tonnage"
  role = aws_iam_role.controller.id
  policy = templatefile("${path.module}/controller-policy.json.tftpl", {
    partition = local.partition
    region    = local.region
    account   = local.account
    cluster   = var.cluster_name
    node_role = aws_iam_role.node.name
    queue     = aws_sqs_queue.announcements.name
    ec2       = local.ec2
  })
}

resource "aws_eks_pod_identity_association" "controller" {
  cluster_name    = var.cluster_name
  namespace       = var.namespace
  service_account = var.service_account
  role_arn        = aws_iam_role.controller.arn
}

# What EC2 announces

resource "aws_sqs_queue" "announcements" {
  name = "tonnage-${local.name}"
  # Maintenance is announced weeks ahead, and the controller may be away for a while.
  message_retention_seconds = 345600
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue_policy" "announcements" {
  queue_url = aws_sqs_queue.announcements.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyEventBridgeSends"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.announcements.arn
        Condition = {
          StringEquals = { "aws:SourceAccount" = local.account }
          ArnLike = {
            "aws:SourceArn" = "arn:${local.partition}:events:${local.region}:${local.account}:rule/*"
          }
        }
      },
      {
        Sid       = "NothingWithoutTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = aws_sqs_queue.announcements.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

locals {
  announcements = {
    ec2 = {
      source = ["aws.ec2"]
      "detail-type" = [
        "EC2 Spot Instance Interruption Warning",
        "EC2 Capacity Reservation Instance Interruption Warning",
        "EC2 Instance Rebalance Recommendation",
        # Two names of one event: the user guide of the China regions has the longer one.
        "Capacity Block Expiration Warning",
        "Capacity Block Reservation Expiration Warning",
      ]
    }
    state = {
      source        = ["aws.ec2"]
      "detail-type" = ["EC2 Instance State-change Notification"]
      detail        = { state = ["stopping", "stopped", "shutting-down", "terminated"] }
    }
    maintenance = {
      source        = ["aws.health"]
      "detail-type" = ["AWS Health Event"]
      detail        = { service = ["EC2"], eventTypeCategory = ["scheduledChange"] }
    }
  }
}

resource "aws_cloudwatch_event_rule" "announcements" {
  for_each      = toset(keys(local.announcements))
  name          = "tonnage-${local.name}-${each.value}"
  event_pattern = jsonencode(local.announcements[each.value])
}

resource "aws_cloudwatch_event_target" "announcements" {
  for_each = aws_cloudwatch_event_rule.announcements
  rule     = each.value.name
  arn      = aws_sqs_queue.announcements.arn
}

output "queue_name" {
  description = "For the chart's settings.interruptionQueue."
  value       = aws_sqs_queue.announcements.name
}

output "instance_profile" {
  description = "For spec.instanceProfile of your EC2NodeClasses."
  value       = aws_iam_instance_profile.node.name
}

output "controller_role_arn" {
  description = "The role that the controller's ServiceAccount uses."
  value       = aws_iam_role.controller.arn
}
