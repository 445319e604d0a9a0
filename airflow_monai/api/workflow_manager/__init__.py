"""The Workflow Manager's API, below ``/monai/workflow-manager``: one module a resource."""

PREFIX = "/workflow-manager"
