"""What a run can choose: typed settings beside the YAML that sets them."""
